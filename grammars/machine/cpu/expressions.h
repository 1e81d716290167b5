// Regular expressions as numbered nodes in one normal form: equal nodes have equal numbers, whoever made them.
#pragma once

#include <algorithm>
#include <map>

#include "byte_sets.h"
#include "stable.h"

namespace ramify {

enum Kind : u8 { SET, EPS, CAT, ALT, AND, NOT, REP };

constexpr u32 NOTHING = 0, EMPTY = 1, ANYTHING = 3;  // 2 is any one byte
constexpr u32 ENDLESS = 0xffffffffu;      // a count without a bound
constexpr u64 INFINITE = u64(1) << 62;    // a length without a bound
constexpr u16 DEEPEST = 400;              // levels of nesting: derivatives recurse once for each

struct Expression {
    Kind kind;
    bool nullable;
    bool hard;   // AND or NOT in it: it may be empty without being NOTHING
    u8 verdict;  // of hard ones: 0 unknown, 1 alive, 2 dead
    u16 depth;
    u32 a, b;         // CAT: head, tail. ALT, AND: where its parts are, how many. SET: which set. NOT, REP: the inner
    u32 least, most;  // REP
    u32 partition;
    u64 shortest, longest;
    ByteSet first;    // the bytes that its strings begin with, perhaps some more
};

class Expressions {
  public:
    Partitions partitions;

    Expressions() {
        index_.reserve(1 << 16);
        byte_set(ByteSet{});
        fresh(EPS, 0, 0, 0, 0, mixed(mixed(0, EPS), 0), true, false, 0, 0, 0, ByteSet{}, partitions.whole());
        ByteSet all;
        all.bits.fill(~u64(0));
        repeat(byte_set(all), 0, ENDLESS);
    }

    const Expression& operator[](u32 id) const { return all_[id]; }
    Expression& at(u32 id) { return all_[id]; }
    size_t count() const { return all_.size(); }
    const u32* parts(u32 id) const { return &lists_[all_[id].a]; }
    size_t bytes() const {
        return all_.size() * sizeof(Expression) + lists_.size() * 4 + index_.bytes() + partitions.bytes();
    }

    u32 byte_set(const ByteSet& set) {
        u64 hash = mixed(set.hash(), SET);
        u32 found = index_.find(hash, [&](u32 id) { return all_[id].kind == SET && all_[id].first == set; });
        if (found != NONE) return found;
        bool empty = set.empty();
        return fresh(SET, 0, 0, 0, 0, hash, false, false, 0, empty ? INFINITE : 1, empty ? 0 : 1, set,
                     partitions.split(set));
    }

    // The one, then the other. A CAT's head is never a CAT, so a literal is a chain whose derivative is its tail.
    u32 concat(u32 head, u32 tail) {
        if (head == NOTHING || tail == NOTHING) return NOTHING;
        if (head == EMPTY) return tail;
        if (tail == EMPTY) return head;
        std::vector<u32> heads;
        for (; all_[head].kind == CAT; head = all_[head].b) heads.push_back(all_[head].a);
        tail = pair(head, tail);
        while (!heads.empty()) {
            tail = pair(heads.back(), tail);
            heads.pop_back();
        }
        return tail;
    }

    u32 either(std::vector<u32> given, int level = 0) {
        std::vector<u32> found;
        ByteSet set;
        for (u32 part : given) {
            bool many = all_[part].kind == ALT;
            u32 count = many ? all_[part].b : 1;
            for (u32 i = 0; i < count; i++) {
                u32 one = many ? lists_[all_[part].a + i] : part;
                if (one == ANYTHING) return ANYTHING;
                if (all_[one].kind == SET)
                    for (int word = 0; word < 4; word++) set.bits[word] |= all_[one].first.bits[word];
                else
                    found.push_back(one);
            }
        }
        if (!set.empty()) found.push_back(byte_set(set));
        sort_unique(found);
        if (found.size() > 1) merge_counts(found);
        if (found.size() > 3 && level < 100) share_heads(found, level);
        if (found.size() > 1 && found[0] == EMPTY)
            for (size_t i = 1; i < found.size(); i++)
                if (all_[found[i]].nullable) {
                    found.erase(found.begin());
                    break;
                }
        if (found.size() < 2) return found.empty() ? NOTHING : found[0];
        return combined(ALT, found);
    }

    u32 both(std::vector<u32> given) {
        std::vector<u32> found;
        ByteSet set;
        set.bits.fill(~u64(0));
        bool sets = false;
        for (u32 part : given) {
            bool many = all_[part].kind == AND;
            u32 count = many ? all_[part].b : 1;
            for (u32 i = 0; i < count; i++) {
                u32 one = many ? lists_[all_[part].a + i] : part;
                if (all_[one].kind == SET) {
                    sets = true;
                    for (int word = 0; word < 4; word++) set.bits[word] &= all_[one].first.bits[word];
                } else if (one != ANYTHING)
                    found.push_back(one);
            }
        }
        if (sets) found.push_back(byte_set(set));
        sort_unique(found);
        if (found.size() < 2) return found.empty() ? ANYTHING : found[0];
        bool nullable = true;
        u64 shortest = 0, longest = INFINITE;
        ByteSet first;
        first.bits.fill(~u64(0));
        for (u32 one : found) {
            const Expression& part = all_[one];
            nullable &= part.nullable;
            shortest = std::max(shortest, part.shortest);
            longest = std::min(longest, part.longest);
            for (int word = 0; word < 4; word++) first.bits[word] &= part.first.bits[word];
            if (part.kind == NOT && std::binary_search(found.begin(), found.end(), part.a)) return NOTHING;
        }
        if (shortest > longest || (!nullable && first.empty())) return NOTHING;
        if (first.empty()) return EMPTY;
        return combined(AND, found);
    }

    u32 complement(u32 inner) {
        if (inner == NOTHING) return ANYTHING;
        if (inner == ANYTHING) return NOTHING;
        if (all_[inner].kind == NOT) return all_[inner].a;
        u64 hash = mixed(mixed(inner, NOT), 5);
        u32 found = index_.find(hash, [&](u32 id) { return all_[id].kind == NOT && all_[id].a == inner; });
        if (found != NONE) return found;
        const Expression part = all_[inner];
        ByteSet first;
        first.bits.fill(~u64(0));
        return fresh(NOT, inner, 0, 0, 0, hash, !part.nullable, true, part.depth + 1, part.nullable ? 1 : 0, INFINITE,
                     first, part.partition);
    }

    u32 repeat(u32 inner, u32 least, u32 most) {
        if (all_[inner].nullable) least = 0;
        if (most < least || (inner == NOTHING && least)) return NOTHING;
        if (most == 0 || inner == EMPTY || inner == NOTHING) return EMPTY;
        if ((least == 1 && most == 1) || inner == ANYTHING) return inner;
        const Expression part = all_[inner];
        if (part.kind == REP && part.most == ENDLESS && part.least == 0) return inner;  // x** is x*
        u64 hash = mixed(mixed(mixed(inner, REP), least), most);
        u32 found = index_.find(hash, [&](u32 id) {
            const Expression& e = all_[id];
            return e.kind == REP && e.a == inner && e.least == least && e.most == most;
        });
        if (found != NONE) return found;
        u64 shortest = part.shortest && least > INFINITE / part.shortest ? INFINITE - 1 : part.shortest * least;
        u64 longest = most == ENDLESS || (part.longest && most > INFINITE / part.longest) ? INFINITE : part.longest * most;
        return fresh(REP, inner, 0, least, most, hash, least == 0, part.hard, part.depth + 1,
                     std::min(shortest, INFINITE - 1), longest, part.first, part.partition);
    }

  private:
    u32 pair(u32 head, u32 tail) {
        u64 hash = mixed(mixed(mixed(head, CAT), tail), 9);
        u32 found = index_.find(
            hash, [&](u32 id) { return all_[id].kind == CAT && all_[id].a == head && all_[id].b == tail; });
        if (found != NONE) return found;
        const Expression left = all_[head], right = all_[tail];
        ByteSet first = left.first;
        u32 partition = left.partition;
        if (left.nullable) {
            for (int word = 0; word < 4; word++) first.bits[word] |= right.first.bits[word];
            partition = partitions.meet(partition, right.partition);
        }
        return fresh(CAT, head, tail, 0, 0, hash, left.nullable && right.nullable, left.hard || right.hard,
                     std::max(u16(left.depth + 1), right.depth), left.shortest + right.shortest,
                     left.longest + right.longest, first, partition);
    }

    static void sort_unique(std::vector<u32>& ids) {
        std::sort(ids.begin(), ids.end());
        ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    }

    // Counts of one thing before one tail are one interval where they touch: x{2,5}y | x{0,3}y is x{0,5}y.
    void merge_counts(std::vector<u32>& found) {
        bool any = false;
        for (u32 id : found) {
            const Expression& e = all_[id];
            any |= e.kind == REP || (e.kind == CAT && all_[e.a].kind == REP);
        }
        if (!any) return;
        std::map<std::pair<u32, u32>, std::vector<std::pair<u64, u64>>> counted;
        std::vector<u32> rest;
        for (u32 id : found) {
            const Expression& e = all_[id];
            u32 head = e.kind == CAT ? e.a : id, tail = e.kind == CAT ? e.b : EMPTY;
            const Expression& h = all_[head];
            if (h.kind == REP)
                counted[{h.a, tail}].push_back({h.least, h.most});
            else
                rest.push_back(id);
        }
        auto taken = [&](u32 id) {
            auto at = std::find(rest.begin(), rest.end(), id);
            if (at == rest.end()) return false;
            rest.erase(at);
            return true;
        };
        bool small = rest.size() <= 64;
        for (auto& group : counted) {
            auto [inner, tail] = group.first;
            auto& spans = group.second;
            if (small && taken(tail)) spans.push_back({0, 0});
            if (small && taken(concat(inner, tail))) spans.push_back({1, 1});
            std::sort(spans.begin(), spans.end());
            size_t kept = 0;
            for (size_t i = 1; i < spans.size(); i++) {
                if (spans[i].first <= spans[kept].second + 1)
                    spans[kept].second = std::max(spans[kept].second, spans[i].second);
                else
                    spans[++kept] = spans[i];
            }
            for (size_t i = 0; i <= kept; i++)
                rest.push_back(concat(repeat(inner, u32(spans[i].first), u32(spans[i].second)), tail));
        }
        sort_unique(rest);
        found.swap(rest);
    }

    // ab | ac | ad is a(b|c|d), where the shared head is a set: many words become a tree.
    void share_heads(std::vector<u32>& found, int level) {
        std::vector<std::pair<u32, u32>> headed;
        std::vector<u32> rest;
        for (u32 id : found) {
            const Expression& e = all_[id];
            if (e.kind == CAT && all_[e.a].kind == SET)
                headed.push_back({e.a, e.b});
            else
                rest.push_back(id);
        }
        std::sort(headed.begin(), headed.end());
        bool shared = false;
        for (size_t i = 1; i < headed.size(); i++) shared |= headed[i].first == headed[i - 1].first;
        if (!shared) return;
        for (size_t i = 0; i < headed.size();) {
            size_t end = i;
            std::vector<u32> tails;
            for (; end < headed.size() && headed[end].first == headed[i].first; end++) tails.push_back(headed[end].second);
            rest.push_back(concat(headed[i].first, tails.size() == 1 ? tails[0] : either(std::move(tails), level + 1)));
            i = end;
        }
        sort_unique(rest);
        found.swap(rest);
    }

    u32 combined(Kind kind, const std::vector<u32>& found) {
        u64 hash = mixed(kind, found.size());
        for (u32 one : found) hash = mixed(hash, one);
        u32 known = index_.find(hash, [&](u32 id) {
            const Expression& e = all_[id];
            return e.kind == kind && e.b == found.size() && !std::memcmp(&lists_[e.a], found.data(), 4 * found.size());
        });
        if (known != NONE) return known;
        const Expression start = all_[found[0]];
        bool nullable = start.nullable, hard = kind == AND || start.hard;
        u64 shortest = start.shortest, longest = start.longest;
        u32 partition = start.partition;
        u16 depth = start.depth;
        ByteSet first = start.first;
        for (size_t i = 1; i < found.size(); i++) {
            const Expression& e = all_[found[i]];
            hard |= e.hard;
            depth = std::max(depth, e.depth);
            partition = partitions.meet(partition, e.partition);
            if (kind == ALT) {
                nullable |= e.nullable;
                shortest = std::min(shortest, e.shortest);
                longest = std::max(longest, e.longest);
                for (int word = 0; word < 4; word++) first.bits[word] |= e.first.bits[word];
            } else {
                nullable &= e.nullable;
                shortest = std::max(shortest, e.shortest);
                longest = std::min(longest, e.longest);
                for (int word = 0; word < 4; word++) first.bits[word] &= e.first.bits[word];
            }
        }
        u32 at = u32(lists_.size());
        lists_.insert(lists_.end(), found.begin(), found.end());
        return fresh(kind, at, u32(found.size()), 0, 0, hash, nullable, hard, depth + 1, shortest, longest, first, partition);
    }

    u32 fresh(Kind kind, u32 a, u32 b, u32 least, u32 most, u64 hash, bool nullable, bool hard, u32 depth, u64 shortest,
              u64 longest, const ByteSet& first, u32 partition) {
        if (depth > DEEPEST) throw TooLarge{"an expression is nested too deep; write it flatter"};
        if (all_.size() > 60'000'000) throw TooLarge{"too many expressions"};
        all_.push_back(Expression{kind, nullable, hard, 0, u16(depth), a, b, least, most, partition,
                                  std::min(shortest, INFINITE), std::min(longest, INFINITE), first});
        index_.insert(hash, u32(all_.size() - 1));
        return u32(all_.size() - 1);
    }

    Stable<Expression> all_;
    std::vector<u32> lists_;
    HashIndex index_;
};

}  // namespace ramify
