// The kinds of bytes that patterns tell apart: what is below a node of the trie is summed up in one bit for each kind.
#pragma once

#include <array>

#include "limits.h"

namespace ramify {

constexpr u32 NO_CHARACTER = 1u << 30;      // bytes beyond ASCII that are no UTF-8 from here on
constexpr u32 CHARACTERS = 1u << 31;  // characters beyond ASCII, the last of which may be cut
constexpr u32 NOT_ASCII = NO_CHARACTER | CHARACTERS;

// The kind of every byte of ASCII, as a bit.
inline const std::array<u32, 128>& ascii_kinds() {
    static const std::array<u32, 128> kinds = [] {
        std::array<u32, 128> found;
        found.fill(1);  // control characters
        const char* alike[] = {"0", "123456789", "abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF", "GHIJKLMNOPQRSTUVWXYZ",
                               "_", "-", ".", " ", "\n\r", "\t", "\"", "\\", "'", "/", ":", ",", "@", "+", "<>&", "=",
                               "()", "[]", "{}", "*", "#", "!$%", "?;|^`~"};
        u32 kind = 2;
        for (const char* characters : alike) {
            for (const char* at = characters; *at; at++) found[size_t(*at)] = kind;
            kind <<= 1;
        }
        return found;
    }();
    return kinds;
}

// Where in a character of UTF-8 one is: what may come next, of how many bytes yet.
struct InCharacter {
    u8 left = 0, low = 0, high = 0;
    bool broken = false;  // there was something that is no UTF-8

    bool between() const { return !left && !broken; }
    InCharacter after(u8 byte) const {
        if (broken) return *this;
        if (left) return byte < low || byte > high ? bad() : InCharacter{u8(left - 1), 0x80, 0xbf, false};
        if (byte < 0x80) return {};
        if (byte < 0xc2 || byte > 0xf4) return bad();
        if (byte < 0xe0) return {1, 0x80, 0xbf, false};
        if (byte < 0xf0) return {2, u8(byte == 0xe0 ? 0xa0 : 0x80), u8(byte == 0xed ? 0x9f : 0xbf), false};
        return {3, u8(byte == 0xf0 ? 0x90 : 0x80), u8(byte == 0xf4 ? 0x8f : 0xbf), false};
    }

  private:
    static InCharacter bad() { return {0, 0, 0, true}; }
};

}  // namespace ramify
