// Reading protobuf's wire format. Whatever is unusual is not read: a slower reader, which knows what
// to say about it, is asked instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ragmesh::wire {

// A part of a message, read from its beginning. Everything returns false where the bytes are not
// what every writer of protobuf writes.
class Reader {
   public:
    explicit Reader(std::string_view bytes)
        : at_(reinterpret_cast<const uint8_t*>(bytes.data())), end_(at_ + bytes.size()) {}

    bool done() const { return at_ == end_; }

    const char* position() const { return reinterpret_cast<const char*>(at_); }

    // A varint in as few bytes as it takes.
    bool varint(uint64_t& value) {
        value = 0;
        for (int shift = 0; shift < 64 && at_ < end_; shift += 7) {
            const uint8_t byte = *at_++;
            if (shift == 63 && byte > 1) return false;
            value |= uint64_t(byte & 0x7f) << shift;
            if (byte < 0x80) return byte != 0 || shift == 0;
        }
        return false;
    }

    bool tag(uint32_t& field, uint32_t& type) {
        uint64_t value;
        if (!varint(value) || value >> 32) return false;
        field = uint32_t(value >> 3);
        type = uint32_t(value & 7);
        return field != 0;
    }

    bool bytes(std::string_view& value) {
        uint64_t size;
        if (!varint(size) || size > uint64_t(end_ - at_)) return false;
        value = {position(), size_t(size)};
        at_ += size;
        return true;
    }

    bool real(double& value) {
        if (end_ - at_ < 8) return false;
        std::memcpy(&value, at_, 8);
        at_ += 8;
        return true;
    }

    // Passes over a field of any type but groups, which proto3 has none of.
    bool skip(uint32_t type) {
        uint64_t number;
        std::string_view part;
        if (type == 0) return varint(number);
        if (type == 2) return bytes(part);
        const std::ptrdiff_t size = type == 1 ? 8 : type == 5 ? 4 : 0;
        if (size == 0 || end_ - at_ < size) return false;
        at_ += size;
        return true;
    }

   private:
    const uint8_t* at_;
    const uint8_t* end_;
};

// Whether these bytes are UTF-8 as the Unicode standard has it; how many characters they are.
bool utf8(std::string_view text, size_t& characters);

// Writes a google.protobuf.Struct as JSON without blanks. False for what JSON cannot say, and for
// what is nested very deeply or has a key twice.
bool json(std::string_view payload, std::string& out);

}  // namespace ragmesh::wire
