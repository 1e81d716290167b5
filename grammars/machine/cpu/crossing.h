// The tokens of a lexeme's state, by how many repeats they take, and what is left of those that cross its end.
#pragma once

#include <algorithm>

#include "rows.h"
#include "spans.h"
#include "trie.h"

namespace ramify {

struct Remains {  // a token may go on from here, after `count` more repeats
    u32 node, count;
};

constexpr u32 LARGE = 1000;  // nodes behind one end that are looked at lexeme by lexeme

// The remainders of tokens behind the lexeme's possible ends, as a tree that is merged as far as somebody walked it.
class Crossing {
  public:
    struct Node {
        u32 from, to;  // in remains
        u32 child, children;
        u32 below;  // the kinds of the bytes below it
        u8 byte;
        bool expanded;
    };
    std::vector<Node> nodes;
    std::vector<Remains> remains;
    std::vector<Remains> large;  // those with much behind them, which are not in the tree
    std::unique_ptr<Outside> outside;  // when there is much of it: other tokens are inside the lexeme, and need no second look

    bool empty() const { return remains.empty() && large.empty(); }
    void expand(u32 at, const Trie& trie) {
        if (nodes[at].expanded) return;
        std::vector<std::pair<u8, Remains>> found;
        for (u32 i = nodes[at].from; i < nodes[at].to; i++) {
            Remains one = remains[i];
            for (u32 child = one.node + 1; child < trie.nodes[one.node].end; child = trie.nodes[child].end) {
                if (outside && outside->none(trie.before[child], trie.before[trie.nodes[child].end])) continue;
                found.push_back({trie.nodes[child].byte, {child, one.count}});
            }
        }
        std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first < b.first; });
        u32 first = u32(nodes.size()), children = 0;
        for (size_t i = 0; i < found.size(); i++) {
            if (!children || nodes.back().byte != found[i].first) {
                nodes.push_back({u32(remains.size()), u32(remains.size()), 0, 0, 0, found[i].first, false});
                children++;
            }
            remains.push_back(found[i].second);
            nodes.back().to++;
            nodes.back().below |= trie.nodes[found[i].second.node].below;
        }
        nodes[at].child = first;
        nodes[at].children = children;
        nodes[at].expanded = true;
    }
};

// Tokens in the order of a count.
class ByCount {
  public:
    void sort(const std::vector<std::pair<u32, u32>>& found) {  // count, token
        u32 top = 0;
        for (auto& one : found) top = std::max(top, one.first);
        from_.assign(top + 2, 0);
        for (auto& one : found) from_[one.first + 1]++;
        for (size_t i = 1; i < from_.size(); i++) from_[i] += from_[i - 1];
        std::vector<u32> at(from_.begin(), from_.end());
        tokens.resize(found.size());
        for (auto& one : found) tokens[at[one.first]++] = one.second;
    }
    // Where the tokens of `count` and more begin.
    u32 from(u64 count) const { return from_[std::min<u64>(count, from_.size() - 1)]; }
    std::vector<u32> tokens;

  private:
    std::vector<u32> from_;
};

// What every state P x{l,m} R has in common, whatever l and m.
struct Shape {
    ByCount staying, gone;  // by how many x they take; gone: they end behind the repeats
    Crossing crossing;
    RowHandle all;  // every staying token
};

}  // namespace ramify
