// A walk of the tokens through a lexeme's automaton, which takes whole subtrees where none can lead out.
#pragma once

#include <unordered_map>

#include "lexemes.h"
#include "spans.h"
#include "staying.h"
#include "trie.h"

namespace ramify {

// The states of one walk, numbered as they turn up, each with its transitions by byte: one look-up a step.
class WalkStates {
  public:
    static constexpr u8 NULLABLE = 1, OVER = 2;  // OVER: nothing may come any more

    explicit WalkStates(Lexemes& lexemes) : lexemes_(lexemes) {}
    void begin() {
        states_.assign(1, {});
        numbers_.clear();
        next_.resize(256);
    }
    u32 number(u32 state) {
        if (state == NOTHING) return 0;
        auto added = numbers_.try_emplace(state, u32(states_.size()));
        if (added.second) {
            u8 flags = u8(lexemes_.nullable(state) * NULLABLE | (state == EMPTY) * OVER);
            states_.push_back({state, staying_.kinds(state), flags});
            next_.resize(states_.size() * 256);
            std::fill(next_.end() - 256, next_.end(), UNKNOWN);
        }
        return added.first->second;
    }
    u8 flags(u32 number) const { return states_[number].flags; }
    // Kinds of characters of which no text leads out.
    u32 staying(u32 number) const { return states_[number].staying; }
    u32 step(u32 number, u8 byte) {
        u32 found = next_[number * 256 + byte];
        return found != UNKNOWN ? found : explored(number, byte);
    }

  private:
    struct State {
        u32 state = NOTHING, staying = 0;
        u8 flags = 0;
    };

    u32 explored(u32 from, u8 byte) {
        u32 found = number(lexemes_.step(states_[from].state, byte));
        return next_[from * 256 + byte] = found;
    }

    Lexemes& lexemes_;
    Staying staying_{lexemes_};
    std::vector<State> states_;
    std::vector<u32> next_;
    std::unordered_map<u32, u32> numbers_;
};

class TokenWalk {
  public:
    TokenWalk(Lexemes& lexemes, const Trie& trie) : lexemes_(lexemes), trie_(trie), states_(lexemes) {
        path_.resize(trie.longest + 2);
    }
    Outside outside;          // the tokens behind the root that leave the lexeme
    std::vector<u32> ends;    // nodes where it may end, with tokens behind them that are outside

    // What is left of the tokens behind a node, from a state on.
    void run(u32 state, u32 root) {
        outside.spans.clear();
        ends.clear();
        states_.begin();
        path_[trie_.nodes[root].depth] = states_.number(state);
        steps_ = 0;
        if (root)
            walk(root + 1, trie_.nodes[root].end);
        else
            from_the_start(lexemes_.nodes[state].first);
        lexemes_.budget->spend(steps_ / 8);
        drop_needless();
    }

  private:
    void from_the_start(const ByteSet& first) {
        for (u32 child = 1; child < trie_.nodes.size(); child = trie_.nodes[child].end) {
            if (first.has(trie_.nodes[child].byte))
                walk(child, trie_.nodes[child].end);
            else
                outside.add(trie_.before[child], trie_.before[trie_.nodes[child].end]);
        }
    }

    void walk(u32 at, u32 end) {
        for (; at < end; steps_++) {
            const TrieNode& node = trie_.nodes[at];
            u32 next = states_.step(path_[node.depth - 1], node.byte);
            if (next == 0) {
                outside.add(trie_.before[at], trie_.before[node.end]);
                at = node.end;
                continue;
            }
            path_[node.depth] = next;
            if (!(node.below & ~states_.staying(next))) {  // also when there is nothing below
                at = node.end;
                continue;
            }
            if (u8 flags = states_.flags(next)) {
                if (flags & WalkStates::NULLABLE) ends.push_back(at);
                if (flags & WalkStates::OVER) {
                    outside.add(trie_.before[at + 1], trie_.before[node.end]);
                    at = node.end;
                    continue;
                }
            }
            at++;
        }
    }

    // Ends behind which every token is inside anyway need no second look.
    void drop_needless() {
        size_t kept = 0, at = 0;
        for (u32 node : ends) {
            u32 from = trie_.before[node + 1], to = trie_.before[trie_.nodes[node].end];
            while (at < outside.spans.size() && outside.spans[at].to <= from) at++;
            if (at < outside.spans.size() && outside.spans[at].from < to) ends[kept++] = node;
        }
        ends.resize(kept);
    }

    Lexemes& lexemes_;
    const Trie& trie_;
    WalkStates states_;
    std::vector<u32> path_;  // by depth
    u32 steps_ = 0;
};

}  // namespace ramify
