// Kinds of bytes that never lead out of a language, read off its expression: then a subtree of tokens needs no walk.
#pragma once

#include "byte_kinds.h"
#include "lexemes.h"

namespace ramify {

// A language e goes on after a byte b at least as it did before where {s : bs in e} has all of e. So it is with x*y and
// a byte that is an x, and with what has that in it beside other ways; then no text of such bytes leads out.
class Staying {
  public:
    explicit Staying(Lexemes& lexemes) : nodes_(lexemes.nodes) {}

    // Kinds of bytes of which no text leads out of a language that has any string.
    u32 kinds(u32 state) {
        u32 best = growing(state);
        for (int link = 0; link < 16 && nodes_[state].kind == CAT; link++) {
            u32 head = nodes_[state].a;
            best = larger(best, within(head, nodes_[state].b));
            if (!nodes_[head].nullable) return best;
            state = nodes_[state].b;
            best = larger(best, growing(state));
        }
        return larger(best, within(state, EMPTY));
    }

    // Kinds of bytes that are each a string of the language.
    u32 single(u32 state) const {
        ByteSet set;
        auto add = [&](u32 part) {
            if (nodes_[part].kind == SET)
                for (int word = 0; word < 4; word++) set.bits[word] |= nodes_[part].first.bits[word];
        };
        add(state);
        if (nodes_[state].kind == ALT)
            for (u32 i = 0; i < nodes_[state].b; i++) add(nodes_.parts(state)[i]);
        return set.empty() ? 0 : whole_kinds(set);
    }

  private:
    // Of the ways in `head`, before `tail`: the best of them.
    u32 within(u32 head, u32 tail) {
        if (nodes_[head].kind != ALT || !plain(tail)) return 0;
        u32 best = 0;
        for (u32 i = 0; i < std::min(nodes_[head].b, PARTS); i++) {
            u32 part = nodes_.parts(head)[i];
            if (!plain(part)) continue;
            best = larger(best, growing(part));
            if (nodes_[part].kind == CAT && nodes_[nodes_[part].a].nullable) best = larger(best, growing(nodes_[part].b));
        }
        return best;
    }

    // Kinds of bytes after which the language goes on at least as before.
    u32 growing(u32 state, int level = 0) {
        while (nodes_[state].kind == CAT) state = nodes_[state].a;
        const Expression& node = nodes_[state];
        if (state == ANYTHING) return ~(1u << BEYOND_ASCII);
        if (node.kind == REP) return node.most == ENDLESS ? single(node.a) : 0;
        if ((node.kind != ALT && node.kind != AND) || level > 8 || node.b > PARTS) return 0;
        u32 all = ~0u;
        for (u32 i = 0; i < node.b && all; i++) all &= growing(nodes_.parts(state)[i], level + 1);
        return all;
    }

    bool plain(u32 state) const { return !nodes_[state].hard || nodes_[state].verdict == 1; }
    static u32 larger(u32 left, u32 right) { return __builtin_popcount(left) < __builtin_popcount(right) ? right : left; }

    static u32 whole_kinds(const ByteSet& set) {
        u32 away = 1u << BEYOND_ASCII;
        for (u32 byte = 0; byte < 128; byte++) away |= u32(!set.has(u8(byte))) << byte_kinds()[byte];
        return ~away;
    }

    static constexpr u32 PARTS = 32;  // that are looked at
    Expressions& nodes_;
};

}  // namespace ramify
