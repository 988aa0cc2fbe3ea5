// Writing protobuf's wire format.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace ragmesh::wire {

inline void write_varint(uint64_t value, std::string& out) {
    while (value >= 0x80) {
        out.push_back(static_cast<char>(value | 0x80));
        value >>= 7;
    }
    out.push_back(static_cast<char>(value));
}

// A string, bytes or a message that is written already. Fields here are below 16: a tag is a byte.
inline void write_bytes(uint32_t field, std::string_view value, std::string& out) {
    out.push_back(static_cast<char>(field << 3 | 2));
    write_varint(value.size(), out);
    out.append(value);
}

// A number of at most 64 bits, negative ones as protobuf has them: in ten bytes.
inline void write_int(uint32_t field, int64_t value, std::string& out) {
    out.push_back(static_cast<char>(field << 3));
    write_varint(static_cast<uint64_t>(value), out);
}

// A float or a double.
template <class Real>
void write_real(uint32_t field, Real value, std::string& out) {
    static_assert(sizeof(Real) == 4 || sizeof(Real) == 8);
    char bytes[sizeof(Real)];
    std::memcpy(bytes, &value, sizeof value);
    out.push_back(static_cast<char>(field << 3 | (sizeof(Real) == 4 ? 5 : 1)));
    out.append(bytes, sizeof bytes);
}

// A message in a field, written where it will stand: its length comes before it and is known after
// it. There is room for one byte of it, and more is made where it takes more.
class Nested {
   public:
    Nested(uint32_t field, std::string& out) : out_(out) {
        out_.push_back(static_cast<char>(field << 3 | 2));
        out_.push_back(0);
        start_ = out_.size();
    }

    void end() {
        const size_t size = out_.size() - start_;
        if (size < 0x80) {
            out_[start_ - 1] = static_cast<char>(size);
            return;
        }
        std::string length;  // of at most ten bytes, which take no memory of their own
        write_varint(size, length);
        out_.replace(start_ - 1, 1, length);
    }

   private:
    std::string& out_;
    size_t start_;
};

// Writes JSON without blanks, as `json` has it, as the fields of a google.protobuf.Struct. False for
// whatever is not so, and for what is nested very deeply.
bool write_struct(std::string_view json, std::string& out);

}  // namespace ragmesh::wire
