// Regular languages run byte by byte: derivatives of numbered expressions, found when first needed.
#pragma once

#include <queue>
#include <unordered_map>

#include "expressions.h"

namespace ramify {

constexpr size_t LIVENESS_STATES = 20'000;  // looked at to decide whether an intersection or complement is empty
constexpr u32 UNKNOWN = NONE;

class Lexemes {
  public:
    Expressions nodes;
    Budget* budget = nullptr;  // of the call under way

    // The state after one more byte; NOTHING when no string goes on like that.
    u32 step(u32 state, u8 byte) {
        if (state < links_.size()) {
            Link link = links_[state];
            u32 target = rows_[link.row + nodes.partitions[link.partition].of[byte]];
            if (target != UNKNOWN) return target;
        }
        return explore(state, byte);
    }
    bool nullable(u32 state) const { return nodes[state].nullable; }

    // Whether the language has a string at all.
    bool alive(u32 state) {
        const Expression& node = nodes[state];
        if (!node.hard || node.nullable) return state != NOTHING;
        if (node.verdict) return node.verdict == 1;
        bool found = false;
        switch (node.kind) {
            case CAT: found = alive(node.a) && alive(nodes[state].b); break;
            case REP: found = alive(node.a); break;
            case ALT: {
                u32 count = node.b;
                for (u32 i = 0; i < count && !found; i++) found = alive(nodes.parts(state)[i]);
                break;
            }
            default: return search(state);
        }
        nodes.at(state).verdict = found ? 1 : 2;
        return found;
    }

    // The bytes that may come next: exactly those.
    ByteSet onward(u32 state) {
        ByteSet result;
        u32 partition = nodes[state].partition, classes = nodes.partitions[partition].classes;
        bool ways[256];
        for (u32 group = 0; group < classes; group++)
            ways[group] = step(state, nodes.partitions[partition].sample[group]) != NOTHING;
        for (int byte = 0; byte < 256; byte++)
            if (ways[nodes.partitions[partition].of[byte]]) result.add(u8(byte));
        return result;
    }

    // Whether no string of it begins another one, so that where one ends is never in doubt.
    bool prefix_free(u32 state) {
        auto known = prefix_free_.find(state);
        if (known != prefix_free_.end()) return known->second;
        std::vector<u32> queue{state};
        std::unordered_map<u32, bool> seen{{state, true}};
        bool result = !nodes[state].hard && !nodes[state].nullable;
        for (size_t at = 0; at < queue.size() && result; at++) {
            if (queue.size() > 200) result = false;
            u32 partition = nodes[queue[at]].partition, classes = nodes.partitions[partition].classes;
            for (u32 group = 0; group < classes && result; group++) {
                u32 next = step(queue[at], nodes.partitions[partition].sample[group]);
                if (next == NOTHING || next == EMPTY) continue;
                if (nodes[next].nullable) result = false;
                if (seen.emplace(next, true).second) queue.push_back(next);
            }
        }
        prefix_free_[state] = result;
        return result;
    }

    size_t bytes() const { return nodes.bytes() + rows_.size() * 4 + links_.size() * 8; }

  private:
    u32 explore(u32 state, u8 byte) {
        u32 target = derivative(state, byte);
        if (nodes[target].hard && !alive(target)) target = NOTHING;
        remember(state, byte, target);
        return target;
    }

    void remember(u32 state, u8 byte, u32 target) {
        const Partition& partition = nodes.partitions[nodes[state].partition];
        if (state >= links_.size()) links_.resize(std::max<size_t>(state + 1, links_.size() * 5 / 4));
        Link& link = links_[state];
        if (!link.row) {
            link = {u32(rows_.size()), nodes[state].partition};
            rows_.resize(rows_.size() + partition.classes, UNKNOWN);
        }
        rows_[link.row + partition.of[byte]] = target;
    }

    // What may follow `byte`, before it is known whether that is anything at all.
    u32 derivative(u32 state, u8 byte) {
        if (budget) budget->spend(4);
        const Expression node = nodes[state];
        if (!node.first.has(byte)) return NOTHING;
        switch (node.kind) {
            case SET: return EMPTY;
            case EPS: return NOTHING;
            case CAT: return chain_derivative(state, byte);
            case REP: {
                u32 rest = nodes.repeat(node.a, node.least ? node.least - 1 : 0,
                                        node.most == ENDLESS ? ENDLESS : node.most - 1);
                return nodes.concat(derivative(node.a, byte), rest);
            }
            case NOT: return nodes.complement(derivative(node.a, byte));
            default: break;
        }
        if (state < links_.size()) {  // known from a time when it was a state itself
            Link link = links_[state];
            u32 target = rows_[link.row + nodes.partitions[link.partition].of[byte]];
            if (target != UNKNOWN) return target;
        }
        std::vector<u32> ways;
        for (u32 i = 0; i < node.b; i++) {
            u32 way = derivative(nodes.parts(state)[i], byte);
            if (way != NOTHING)
                ways.push_back(way);
            else if (node.kind == AND)
                return NOTHING;
        }
        if (budget) budget->spend(ways.size());
        return node.kind == AND ? nodes.both(std::move(ways)) : nodes.either(std::move(ways));
    }

    u32 chain_derivative(u32 state, u8 byte) {
        std::vector<u32> ways;
        for (;;) {
            const Expression node = nodes[state];
            if (node.kind != CAT) {
                ways.push_back(derivative(state, byte));
                break;
            }
            if (nodes[node.a].first.has(byte)) ways.push_back(nodes.concat(derivative(node.a, byte), node.b));
            if (!nodes[node.a].nullable) break;
            state = node.b;
        }
        return ways.size() == 1 ? ways[0] : nodes.either(std::move(ways));
    }

    // Looks for a string, the way that promises the shortest first and, of those, the one furthest along.
    bool search(u32 start) {
        struct Way {
            u64 estimate;
            int depth;  // counts down
            u64 order;
            u32 state;
            bool operator<(const Way& other) const {
                if (estimate != other.estimate) return estimate > other.estimate;
                if (depth != other.depth) return depth > other.depth;
                return order > other.order;
            }
        };
        std::unordered_map<u32, u32> came{{start, start}};
        std::priority_queue<Way> queue;
        u64 order = 0;
        queue.push({nodes[start].shortest, 0, order++, start});
        while (!queue.empty()) {
            Way way = queue.top();
            queue.pop();
            u32 state = way.state, partition = nodes[state].partition, classes = nodes.partitions[partition].classes;
            for (u32 group = 0; group < classes; group++) {
                u32 target = derivative(state, nodes.partitions[partition].sample[group]);
                if (target == NOTHING || came.count(target) || nodes[target].verdict == 2) continue;
                bool simple = nodes[target].kind != AND && nodes[target].kind != NOT;
                if (nodes[target].nullable || nodes[target].verdict == 1 || (simple && alive(target))) {
                    nodes.at(target).verdict = 1;
                    while (nodes[state].verdict != 1) {
                        nodes.at(state).verdict = 1;
                        state = came[state];
                    }
                    return true;
                }
                if (simple) continue;
                came[target] = state;
                queue.push({nodes[target].shortest + u64(1 - way.depth), way.depth - 1, order++, target});
            }
            if (came.size() > LIVENESS_STATES)
                throw TooLarge{"whether anything matches an intersection or complement was not decided in 20000 states; "
                               "make its parts simpler or their counts smaller"};
        }
        for (auto& pair : came) nodes.at(pair.first).verdict = 2;
        return false;
    }

    struct Link {  // where a state's transitions are in rows_, by class of its partition; at 0: it has none yet
        u32 row = 0, partition = 0;
    };
    std::vector<Link> links_;
    std::vector<u32> rows_{std::vector<u32>(1, UNKNOWN)};
    std::unordered_map<u32, bool> prefix_free_;
};

}  // namespace ramify
