#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include "reading.hpp"

namespace ragmesh::wire {
namespace {

constexpr int depth_max = 32;

void write_string(std::string_view text, std::string& out) {
    static const char digits[] = "0123456789abcdef";
    out.push_back('"');
    size_t start = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<uint8_t>(text[i]);
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        out.append(text.substr(start, i - start));
        start = i + 1;
        out.push_back('\\');
        switch (byte) {
            case '"': out.push_back('"'); break;
            case '\\': out.push_back('\\'); break;
            case '\b': out.push_back('b'); break;
            case '\f': out.push_back('f'); break;
            case '\n': out.push_back('n'); break;
            case '\r': out.push_back('r'); break;
            case '\t': out.push_back('t'); break;
            default:
                out.append("u00");
                out.push_back(digits[byte >> 4]);
                out.push_back(digits[byte & 15]);
        }
    }
    out.append(text.substr(start));
    out.push_back('"');
}

// Whole numbers below this are written as integers. Above it the digits are those of the nearest
// double, which nobody gave, and up to 309 of them. JavaScript's limit (ECMA-262, Number::toString).
constexpr double integer_max = 1e21;

// Whole numbers as integers, others with as many digits as tell them from their neighbors. In no
// locale is there a comma in them.
bool write_number(double number, std::string& out) {
    if (!std::isfinite(number)) return false;
    char text[32];
    char* const end = text + sizeof text;
    const double size = std::fabs(number);
    // + 0.0 turns -0.0 into 0.0. Without the exponent a large number would look like an integer.
    const auto written =
        size >= integer_max ? std::to_chars(text, end, number, std::chars_format::scientific)
        : number == std::floor(number)
            ? std::to_chars(text, end, number + 0.0, std::chars_format::fixed, 0)
            : std::to_chars(text, end, number);
    if (written.ec != std::errc()) return false;
    out.append(text, written.ptr);
    return true;
}

bool write_struct(std::string_view bytes, int depth, std::string& out);

bool write_list(std::string_view bytes, int depth, std::string& out);

bool write_value(std::string_view bytes, int depth, std::string& out) {
    Reader reader(bytes);
    uint32_t field, type;
    uint64_t number;
    double real;
    std::string_view part;
    size_t characters;
    if (!reader.tag(field, type)) return false;
    bool written = false;
    if (field == 1 && type == 0) {
        written = reader.varint(number);
        out.append("null");
    } else if (field == 2 && type == 1) {
        written = reader.real(real) && write_number(real, out);
    } else if (field == 3 && type == 2) {
        written = reader.bytes(part) && utf8(part, characters);
        if (written) write_string(part, out);
    } else if (field == 4 && type == 0) {
        written = reader.varint(number);
        out.append(number ? "true" : "false");
    } else if (field == 5 && type == 2) {
        written = reader.bytes(part) && write_struct(part, depth + 1, out);
    } else if (field == 6 && type == 2) {
        written = reader.bytes(part) && write_list(part, depth + 1, out);
    }
    return written && reader.done();
}

bool write_list(std::string_view bytes, int depth, std::string& out) {
    if (depth > depth_max) return false;
    Reader reader(bytes);
    out.push_back('[');
    bool first = true;
    while (!reader.done()) {
        uint32_t field, type;
        std::string_view value;
        if (!reader.tag(field, type) || field != 1 || type != 2 || !reader.bytes(value))
            return false;
        if (!first) out.push_back(',');
        first = false;
        if (!write_value(value, depth, out)) return false;
    }
    out.push_back(']');
    return true;
}

// An entry of a map: its key, then its value, as every writer has them.
bool read_entry(std::string_view bytes, std::string_view& key, std::string_view& value) {
    Reader reader(bytes);
    uint32_t field, type;
    size_t characters;
    return reader.tag(field, type) && field == 1 && type == 2 && reader.bytes(key) &&
           utf8(key, characters) && reader.tag(field, type) && field == 2 && type == 2 &&
           reader.bytes(value) && reader.done();
}

bool write_struct(std::string_view bytes, int depth, std::string& out) {
    if (depth > depth_max) return false;
    Reader reader(bytes);
    std::vector<std::string_view> keys;
    out.push_back('{');
    while (!reader.done()) {
        uint32_t field, type;
        std::string_view entry, key, value;
        if (!reader.tag(field, type) || field != 1 || type != 2 || !reader.bytes(entry) ||
            !read_entry(entry, key, value))
            return false;
        if (!keys.empty()) out.push_back(',');
        keys.push_back(key);
        write_string(key, out);
        out.push_back(':');
        if (!write_value(value, depth, out)) return false;
    }
    out.push_back('}');
    std::sort(keys.begin(), keys.end());
    return std::adjacent_find(keys.begin(), keys.end()) == keys.end();
}

}  // namespace

bool utf8(std::string_view text, size_t& characters) {
    characters = 0;
    const auto* at = reinterpret_cast<const uint8_t*>(text.data());
    const auto* end = at + text.size();
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8 && (std::memcpy(&eight, at, 8), !(eight & 0x8080808080808080))) {
            characters += 8;
            at += 8;
            continue;
        }
        ++characters;
        const uint8_t first = *at;
        if (first < 0x80) {
            ++at;
            continue;
        }
        const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at <= more) return false;
        // What the second byte may be says what is overlong, a surrogate, or beyond Unicode.
        const uint8_t least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        const uint8_t most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (at[1] < least || at[1] > most) return false;
        for (int i = 2; i <= more; ++i)
            if ((at[i] & 0xc0) != 0x80) return false;
        at += more + 1;
    }
    return true;
}

bool json(std::string_view payload, std::string& out) { return write_struct(payload, 0, out); }

}  // namespace ragmesh::wire
