// The kinds of bytes that patterns tell apart: what is below a node of the trie is summed up in one bit for each kind.
#pragma once

#include <array>

#include "limits.h"

namespace ramify {

constexpr u32 BYTE_KINDS = 32;
constexpr u8 BEYOND_ASCII = 31;

// Every byte's kind. Bytes that are no character by themselves are of one kind, which no state goes round on.
inline const std::array<u8, 256>& byte_kinds() {
    static const std::array<u8, 256> kinds = [] {
        std::array<u8, 256> found;
        found.fill(BEYOND_ASCII);
        for (int byte = 0; byte < 128; byte++) found[size_t(byte)] = 0;  // control characters, and the rest
        const char* alike[] = {"0", "123456789", "abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF", "GHIJKLMNOPQRSTUVWXYZ",
                               "_", "-", ".", " ", "\n\r", "\t", "\"", "\\", "'", "/", ":", ",", "@", "+", "<>&", "=",
                               "()", "[]", "{}", "*", "#", "!$%", "?", ";|^`~"};
        u8 kind = 1;
        for (const char* characters : alike) {
            for (const char* at = characters; *at; at++) found[u8(*at)] = kind;
            kind++;
        }
        return found;
    }();
    return kinds;
}

}  // namespace ramify
