// JSON as it is stored, written as a google.protobuf.Struct.
#include <charconv>
#include <cmath>
#include <string>

#include "reading.hpp"
#include "writing.hpp"

namespace ragmesh::wire {
namespace {

constexpr int depth_max = 32;

enum Kind : uint32_t { null = 1, number = 2, string = 3, boolean = 4, object = 5, list = 6 };

void write_character(uint32_t code, std::string& out) {
    if (code < 0x80) {
        out.push_back(static_cast<char>(code));
    } else if (code < 0x800) {
        out.push_back(static_cast<char>(0xc0 | code >> 6));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        out.push_back(static_cast<char>(0xe0 | code >> 12));
        out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else {
        out.push_back(static_cast<char>(0xf0 | code >> 18));
        out.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
}

class Json {
   public:
    Json(std::string_view text, std::string& out)
        : at_(text.data()), end_(at_ + text.size()), out_(out) {}

    bool done() const { return at_ == end_; }

    bool fields(int depth) {
        if (depth > depth_max || !take('{')) return false;
        if (take('}')) return true;
        do {
            Nested entry(1, out_);
            if (!text(1) || !take(':')) return false;
            Nested one(2, out_);
            if (!value(depth)) return false;
            one.end();
            entry.end();
        } while (take(','));
        return take('}');
    }

   private:
    bool take(char wanted) {
        if (at_ == end_ || *at_ != wanted) return false;
        ++at_;
        return true;
    }

    bool word(std::string_view wanted) {
        if (std::string_view(at_, size_t(end_ - at_)).substr(0, wanted.size()) != wanted)
            return false;
        at_ += wanted.size();
        return true;
    }

    bool values(int depth) {
        if (depth > depth_max || !take('[')) return false;
        if (take(']')) return true;
        do {
            Nested one(1, out_);
            if (!value(depth)) return false;
            one.end();
        } while (take(','));
        return take(']');
    }

    bool value(int depth) {
        if (done()) return false;
        switch (*at_) {
            case '"': return text(Kind::string);
            case '{': {
                Nested nested(Kind::object, out_);
                if (!fields(depth + 1)) return false;
                nested.end();
                return true;
            }
            case '[': {
                Nested nested(Kind::list, out_);
                if (!values(depth + 1)) return false;
                nested.end();
                return true;
            }
            case 'n': write_int(Kind::null, 0, out_); return word("null");
            case 't': write_int(Kind::boolean, 1, out_); return word("true");
            case 'f': write_int(Kind::boolean, 0, out_); return word("false");
            default: return real();
        }
    }

    bool digits() {
        const char* const start = at_;
        while (at_ < end_ && *at_ >= '0' && *at_ <= '9') ++at_;
        return at_ > start;
    }

    bool real() {
        const char* const start = at_;
        take('-');
        if (!take('0') && !digits()) return false;
        const char* const whole = at_;
        if (take('.') && !digits()) return false;
        if (take('e') || take('E')) {
            if (!take('-')) take('+');
            if (!digits()) return false;
        }
        double value;
        const auto read = std::from_chars(start, at_, value);
        if (read.ec != std::errc() || read.ptr != at_) return false;
        if (at_ == whole) value += 0.0;  // there is no whole number -0
        write_real(Kind::number, value, out_);
        return true;
    }

    bool hex(uint32_t& code) {
        if (end_ - at_ < 4) return false;
        const auto read = std::from_chars(at_, at_ + 4, code, 16);
        if (read.ec != std::errc() || read.ptr != at_ + 4) return false;
        at_ += 4;
        return true;
    }

    bool escaped() {
        if (done()) return false;
        const char what = *at_++;
        switch (what) {
            case '"': case '\\': case '/': out_.push_back(what); return true;
            case 'b': out_.push_back('\b'); return true;
            case 'f': out_.push_back('\f'); return true;
            case 'n': out_.push_back('\n'); return true;
            case 'r': out_.push_back('\r'); return true;
            case 't': out_.push_back('\t'); return true;
            case 'u': break;
            default: return false;
        }
        uint32_t code, low;
        if (!hex(code)) return false;
        if (code >= 0xd800 && code < 0xe000) {  // a half, which says nothing without the other
            if (code >= 0xdc00 || !take('\\') || !take('u') || !hex(low)) return false;
            if (low < 0xdc00 || low >= 0xe000) return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        write_character(code, out_);
        return true;
    }

    bool text(uint32_t field) {
        if (!take('"')) return false;
        Nested nested(field, out_);
        for (;;) {
            const char* const start = at_;
            while (at_ < end_ && static_cast<uint8_t>(*at_) >= 0x20 && *at_ != '"' && *at_ != '\\')
                ++at_;
            size_t characters;
            const std::string_view plain(start, size_t(at_ - start));
            if (!utf8(plain, characters)) return false;
            out_.append(plain);
            if (take('"')) break;
            if (!take('\\') || !escaped()) return false;
        }
        nested.end();
        return true;
    }

    const char* at_;
    const char* end_;
    std::string& out_;
};

}  // namespace

bool write_struct(std::string_view json, std::string& out) {
    Json reader(json, out);
    return reader.fields(0) && reader.done();
}

}  // namespace ragmesh::wire
