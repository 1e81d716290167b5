// Kinds of characters that never lead out of a language, read off its expression: subtrees of such tokens need no walk.
#pragma once

#include "byte_kinds.h"
#include "lexemes.h"

namespace ramify {

// A language e goes on after a character c at least as it did before where {s : cs in e} has all of e. So it is with x*y
// and a character that is an x, and with what has that in it beside other ways; then no text of such leads out.
class Staying {
  public:
    explicit Staying(Lexemes& lexemes) : lexemes_(lexemes), nodes_(lexemes.nodes) {}

    // Kinds of characters of which no text leads out of a language that has any string.
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

    // Whether every character beyond ASCII is a string of the language.
    bool has_characters(u32 state) {
        auto known = has_characters_.find(state);
        if (known != has_characters_.end()) return known->second;
        bool has = true;
        for (u32 byte = 0xc2; byte <= 0xf4 && has; byte++)
            has = has_rest(lexemes_.step(state, u8(byte)), InCharacter{}.after(u8(byte)));
        if (has_characters_.size() > 10'000) has_characters_.clear();
        return has_characters_[state] = has;
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

    bool has_rest(u32 state, InCharacter where) {
        if (!where.left) return lexemes_.nullable(state);
        if (state == NOTHING) return false;
        u32 last = NONE;  // what the byte before led to, that is not asked again
        for (u32 byte = where.low; byte <= where.high; byte++) {
            u32 next = lexemes_.step(state, u8(byte));
            if (next != last && !has_rest(next, where.after(u8(byte)))) return false;
            last = next;
        }
        return true;
    }

    // Kinds of characters that are each a string of the language.
    u32 single(u32 state) {
        ByteSet set;
        bool more = nodes_[state].kind == ALT;
        auto add = [&](u32 part) {
            if (nodes_[part].kind == SET)
                for (int word = 0; word < 4; word++) set.bits[word] |= nodes_[part].first.bits[word];
        };
        add(state);
        if (more)
            for (u32 i = 0; i < nodes_[state].b; i++) add(nodes_.parts(state)[i]);
        if (set.empty()) return 0;
        u32 away = more && has_characters(state) ? NO_CHARACTER : NOT_ASCII;
        for (u32 byte = 0; byte < 128; byte++)
            if (!set.has(u8(byte))) away |= ascii_kinds()[byte];
        return ~away;
    }

    // Kinds of characters after which the language goes on at least as before.
    u32 growing(u32 state, int level = 0) {
        while (nodes_[state].kind == CAT) state = nodes_[state].a;
        const Expression& node = nodes_[state];
        if (state == ANYTHING) return ~0u;
        if (node.kind == REP) return node.most == ENDLESS ? single(node.a) : 0;
        if ((node.kind != ALT && node.kind != AND) || level > 8 || node.b > PARTS) return 0;
        u32 all = ~0u;
        for (u32 i = 0; i < node.b && all; i++) all &= growing(nodes_.parts(state)[i], level + 1);
        return all;
    }

    bool plain(u32 state) const { return !nodes_[state].hard || nodes_[state].verdict == 1; }
    static u32 larger(u32 left, u32 right) { return __builtin_popcount(left) < __builtin_popcount(right) ? right : left; }

    static constexpr u32 PARTS = 32;  // that are looked at
    Lexemes& lexemes_;
    Expressions& nodes_;
    std::unordered_map<u32, bool> has_characters_;
};

}  // namespace ramify
