// The tokens of a vocabulary as one tree over their bytes, in preorder, so that a walk is a scan that skips.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>

#include "byte_kinds.h"

namespace ramify {

struct TrieNode {
    u32 end;    // the index after its subtree; its first child, if any, is the next index
    u32 token;  // the first token that ends here, NONE if none does; more in Trie::same
    u32 below;  // the kinds of the bytes below it, a bit for each: 0 for a leaf
    u16 depth;  // the root has 0
    u8 byte;
};

struct TrieToken {
    u32 token, characters;  // the bytes of it that begin a character
};

class Trie {
  public:
    std::vector<TrieNode> nodes;
    std::vector<u32> same;    // token -> the next token with the same bytes
    std::vector<u32> before;  // node -> how many nodes before it have tokens
    std::vector<TrieToken> tokens;  // those of the nodes that have some, in order: the first of each
    u32 longest = 0;
    bool twins = false;  // some tokens have the same bytes
    u32 first[256];  // the root's child by byte, NONE where there is none

    // Tokens of no bytes are left out: they are never allowed.
    Trie(const u8* data, const u64* offsets, u32 count) : same(count, NONE), data_(data, data + offsets[count]) {
        offsets_.assign(offsets, offsets + count + 1);
        std::vector<u32> order;
        for (u32 token = 0; token < count; token++) {
            u64 length = offsets_[token + 1] - offsets_[token];
            if (length > 0 && length < 60000) order.push_back(token);
        }
        std::sort(order.begin(), order.end(), [&](u32 left, u32 right) {
            size_t a = length(left), b = length(right);
            int compared = std::memcmp(bytes(left), bytes(right), std::min(a, b));
            if (compared) return compared < 0;
            return a != b ? a < b : left < right;
        });
        nodes.push_back({0, NONE, 0, 0, 0});
        std::vector<u32> path{0};
        for (u32 token : order) {
            const u8* text = bytes(token);
            size_t size = length(token), shared = 0;
            while (shared < size && shared + 1 < path.size() && nodes[path[shared + 1]].byte == text[shared]) shared++;
            close(path, shared + 1);
            for (size_t at = shared; at < size; at++) {
                path.push_back(u32(nodes.size()));
                nodes.push_back({0, NONE, 0, u16(at + 1), text[at]});
            }
            TrieNode& last = nodes[path.back()];
            if (last.token != NONE) {
                same[token] = last.token;
                twins = true;
            }
            last.token = token;
            longest = std::max(longest, u32(size));
        }
        close(path, 0);
        std::fill(first, first + 256, NONE);
        for (u32 child = 1; child < nodes.size(); child = nodes[child].end) first[nodes[child].byte] = child;
        for (const TrieNode& node : nodes) {
            before.push_back(u32(tokens.size()));
            if (node.token != NONE) tokens.push_back({node.token, characters(node.token, node.depth)});
        }
        before.push_back(u32(tokens.size()));
        sum_up();
    }
    const u8* bytes(u32 token) const { return data_.data() + offsets_[token]; }
    size_t length(u32 token) const { return offsets_[token + 1] - offsets_[token]; }
    u32 count() const { return u32(same.size()); }

    // Some token of this subtree; it begins with the bytes of the way to the node.
    u32 some_token(u32 node) const {
        while (nodes[node].token == NONE) node++;
        return nodes[node].token;
    }

    // A node's child by byte, NONE where there is none.
    u32 child(u32 node, u8 byte) const {
        if (!node) return first[byte];
        for (u32 child = node + 1; child < nodes[node].end; child = nodes[child].end)
            if (nodes[child].byte >= byte) return nodes[child].byte == byte ? child : NONE;
        return NONE;
    }

    // How many of a token's first bytes begin a character.
    u32 characters(u32 token, u32 depth) const {
        return u32(std::count_if(bytes(token), bytes(token) + depth, [](u8 byte) { return byte < 0x80 || byte >= 0xc0; }));
    }

  private:
    // What is below each node; a character is one when the way to it from the node is made of characters.
    void sum_up() {
        std::vector<u32> parents(nodes.size()), path(longest + 1);
        std::vector<InCharacter> where(nodes.size());
        for (u32 node = 1; node < nodes.size(); node++) {
            u32 parent = parents[node] = path[nodes[node].depth - 1];
            where[node] = where[parent].after(nodes[node].byte);
            path[nodes[node].depth] = node;
        }
        for (u32 node = u32(nodes.size()); node-- > 1;) {
            u8 byte = nodes[node].byte;
            bool breaks = where[node].broken && (byte >= 0x80 || !where[parents[node]].broken);
            u32 own = (byte < 0x80 ? ascii_kinds()[byte] : CHARACTERS) | (breaks ? NO_CHARACTER : 0);
            nodes[parents[node]].below |= nodes[node].below | own;
            if (!where[node].between() && nodes[node].below & CHARACTERS)
                nodes[node].below = (nodes[node].below & ~CHARACTERS) | NO_CHARACTER;
        }
    }

    void close(std::vector<u32>& path, size_t keep) {
        while (path.size() > keep) {
            nodes[path.back()].end = u32(nodes.size());
            path.pop_back();
        }
    }
    std::vector<u8> data_;
    std::vector<u64> offsets_;
};

}  // namespace ramify
