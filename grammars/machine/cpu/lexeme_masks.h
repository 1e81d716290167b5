// What tokens may follow in a state of a lexeme: those that stay inside it, and where others cross its end.
//
// A state P x{l,m} R, where it is always plain which x one is in, shares one walk of the tokens with every other l and m:
// each token keeps how many x it takes, and the tokens of a state are a slice of them.
#pragma once

#include <unordered_map>

#include "lexemes.h"
#include "rows.h"
#include "trie.h"

namespace ramify {

struct Remains {  // a token may go on from here, after `count` more repeats
    u32 node, count;
};

// The remainders of tokens behind the lexeme's possible ends, as a tree that is merged as far as somebody walked it.
class Crossing {
  public:
    struct Node {
        u32 from, to;  // in remains
        u32 child, children;
        u8 byte;
        bool expanded;
    };
    std::vector<Node> nodes;
    std::vector<Remains> remains;

    bool empty() const { return remains.empty(); }
    void expand(u32 at, const Trie& trie) {
        if (nodes[at].expanded) return;
        std::vector<std::pair<u8, Remains>> found;
        for (u32 i = nodes[at].from; i < nodes[at].to; i++) {
            Remains one = remains[i];
            for (u32 child = one.node + 1; child < trie.nodes[one.node].end; child = trie.nodes[child].end)
                found.push_back({trie.nodes[child].byte, {child, one.count}});
        }
        std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first < b.first; });
        u32 first = u32(nodes.size()), children = 0;
        for (size_t i = 0; i < found.size(); i++) {
            if (!children || nodes.back().byte != found[i].first) {
                nodes.push_back({u32(remains.size()), u32(remains.size()), 0, 0, found[i].first, false});
                children++;
            }
            remains.push_back(found[i].second);
            nodes.back().to++;
        }
        nodes[at].child = first;
        nodes[at].children = children;
        nodes[at].expanded = true;
    }
};

struct Shape {
    std::vector<u32> staying, gone;  // tokens by how many x they take; gone: they end behind the repeats
    std::vector<u32> staying_from, gone_from;  // count -> where its tokens begin
    Crossing crossing;
    RowHandle all;  // every staying token
};

struct LexemeMask {
    bool dense = false;
    RowHandle row;           // when dense
    std::vector<u32> few;    // when not
    Crossing* crossing = nullptr;
    u32 least = 0, most = ENDLESS;  // the crossings to take, by count
    Shape* shape = nullptr;
    std::unique_ptr<Crossing> own;
};

class LexemeMasks {
  public:
    LexemeMasks(Lexemes& lexemes, const Trie& trie, Rows& rows) : lexemes_(lexemes), trie_(trie), rows_(rows) {
        states_.resize(trie.longest + 2);
        phases_.resize(trie.longest + 2);
        scratch_.resize(rows.words());
    }

    // The mask of a state; good until the next call. Its row, when dense, is there now.
    LexemeMask& of(u32 state) {
        auto added = masks_.try_emplace(state);
        LexemeMask& mask = added.first->second;
        bool stale = !added.second && mask.dense && !rows_.get(mask.row);
        if (added.second || stale) {
            try {
                make(state, mask);
            } catch (...) {
                masks_.erase(state);
                throw;
            }
        }
        return mask;
    }
    size_t bytes() const { return bytes_; }

    // Forget everything; masks handed out are no longer good.
    void clear() {
        masks_.clear();
        shapes_.clear();
        bytes_ = 0;
    }

  private:
    struct Phase {
        u32 state, count;
        bool behind;  // the repeats
    };

    void make(u32 state, LexemeMask& mask) {
        u32 before, repeated, after;
        if (counted(state, before, repeated, after)) {
            const Expression& repeat = lexemes_.nodes[repeated];
            mask.least = repeat.least;
            mask.most = repeat.most;
            slice(shape(before, repeat.a, after), mask);
        } else
            walk(state, mask);
    }

    // Whether the state is P x{l,m} R with counts that matter and the way through it is never in doubt.
    bool counted(u32 state, u32& before, u32& repeated, u32& after) {
        Expressions& nodes = lexemes_.nodes;
        if (nodes[state].hard) return false;
        std::vector<u32> heads;
        for (int parts = 0; parts < 8; parts++) {
            u32 head = nodes[state].kind == CAT ? nodes[state].a : state;
            if (nodes[head].kind == REP && (nodes[head].least || nodes[head].most != ENDLESS)) {
                repeated = head;
                after = nodes[state].kind == CAT ? nodes[state].b : EMPTY;
                before = EMPTY;
                for (size_t i = heads.size(); i-- > 0;) before = nodes.concat(heads[i], before);
                if (before != EMPTY && !lexemes_.prefix_free(before)) return false;
                if (!lexemes_.prefix_free(nodes[head].a)) return false;
                ByteSet inner = lexemes_.onward(nodes[head].a), next = lexemes_.onward(after);
                for (int word = 0; word < 4; word++)
                    if (inner.bits[word] & next.bits[word]) return false;
                return true;
            }
            if (nodes[state].kind != CAT) return false;
            heads.push_back(head);
            state = nodes[state].b;
        }
        return false;
    }

    Shape& shape(u32 before, u32 inner, u32 after) {
        u64 key = mixed(mixed(mixed(17, before), inner), after);
        auto& bucket = shapes_[key];
        for (auto& one : bucket)
            if (one.first == std::array<u32, 3>{before, inner, after}) return *one.second;
        auto made = std::make_unique<Shape>();
        std::vector<std::pair<u32, u32>> staying, gone;  // count, token
        Crossing& crossing = made->crossing;
        crossing.nodes.push_back({0, 0, 0, 0, 0, false});
        phases_[0] = {before, 0, false};
        bool ends = lexemes_.nullable(after);
        u32 size = u32(trie_.nodes.size());
        lexemes_.budget->spend(size / 8);
        for (u32 at = 1; at < size;) {
            const TrieNode& node = trie_.nodes[at];
            Phase phase = phases_[node.depth - 1];
            if (phase.behind)
                phase.state = lexemes_.step(phase.state, node.byte);
            else if (phase.state != EMPTY)
                phase.state = lexemes_.step(phase.state, node.byte);
            else {
                u32 next = lexemes_.step(inner, node.byte);
                if (next != NOTHING)
                    phase = {next, phase.count + 1, false};
                else
                    phase = {lexemes_.step(after, node.byte), phase.count, true};
            }
            if (phase.state == NOTHING) {
                at = node.end;
                continue;
            }
            phases_[node.depth] = phase;
            for (u32 token = node.token; token != NONE; token = trie_.same[token])
                (phase.behind ? gone : staying).push_back({phase.count, token});
            bool may_end = phase.behind ? lexemes_.nullable(phase.state) : phase.state == EMPTY && ends;
            if (may_end && node.end > at + 1) crossing.remains.push_back({at, phase.count});
            at = phase.behind && phase.state == EMPTY ? node.end : at + 1;
        }
        crossing.nodes[0].to = u32(crossing.remains.size());
        sorted(staying, made->staying, made->staying_from);
        sorted(gone, made->gone, made->gone_from);
        bytes_ += (staying.size() + gone.size() + 2 * crossing.remains.size()) * 4 + 256;
        bucket.push_back({std::array<u32, 3>{before, inner, after}, std::move(made)});
        return *bucket.back().second;
    }

    static void sorted(std::vector<std::pair<u32, u32>>& found, std::vector<u32>& tokens, std::vector<u32>& from) {
        u32 top = 0;
        for (auto& one : found) top = std::max(top, one.first);
        from.assign(top + 2, 0);
        for (auto& one : found) from[one.first + 1]++;
        for (size_t i = 1; i < from.size(); i++) from[i] += from[i - 1];
        std::vector<u32> at(from.begin(), from.end());
        tokens.resize(found.size());
        for (auto& one : found) tokens[at[one.first]++] = one.second;
    }
    static u32 begin_of(const std::vector<u32>& from, u64 count) { return from[std::min<u64>(count, from.size() - 1)]; }

    void slice(Shape& shape, LexemeMask& mask) {
        mask.shape = &shape;
        mask.crossing = &shape.crossing;
        u32 staying = begin_of(shape.staying_from, u64(mask.most) + 1);
        u32 gone_from = begin_of(shape.gone_from, mask.least), gone_to = begin_of(shape.gone_from, u64(mask.most) + 1);
        if (gone_to < gone_from) gone_to = gone_from;
        u32 total = staying + gone_to - gone_from;
        if (total <= rows_.words() / 2) {
            mask.few.assign(shape.staying.begin(), shape.staying.begin() + staying);
            mask.few.insert(mask.few.end(), shape.gone.begin() + gone_from, shape.gone.begin() + gone_to);
            bytes_ += 100 + mask.few.size() * 4;
            return;
        }
        mask.dense = true;
        if (!rows_.get(shape.all)) {
            RowHandle handle = rows_.make();
            u32* words = rows_.get(handle);
            for (u32 token : shape.staying) words[token >> 5] |= 1u << (token & 31);
            shape.all = handle;
        }
        if (staying == shape.staying.size() && gone_from == gone_to) {
            mask.row = shape.all;
            return;
        }
        rows_.hold(shape.all);
        RowHandle handle = rows_.make();
        rows_.release(shape.all);
        u32 *words = rows_.get(handle), *all = rows_.get(shape.all);
        if (staying * 2u > shape.staying.size()) {
            std::copy(all, all + rows_.words(), words);
            for (u32 i = staying; i < shape.staying.size(); i++)
                words[shape.staying[i] >> 5] &= ~(1u << (shape.staying[i] & 31));
        } else
            for (u32 i = 0; i < staying; i++) words[shape.staying[i] >> 5] |= 1u << (shape.staying[i] & 31);
        for (u32 i = gone_from; i < gone_to; i++) words[shape.gone[i] >> 5] |= 1u << (shape.gone[i] & 31);
        mask.row = handle;
    }

    void walk(u32 state, LexemeMask& mask) {
        bool again = mask.own != nullptr;
        auto crossing = std::make_unique<Crossing>();
        crossing->nodes.push_back({0, 0, 0, 0, 0, false});
        std::fill(scratch_.begin(), scratch_.end(), 0u);
        std::vector<u32> few;
        inside_.clear();
        u32 count = 0, most_few = rows_.words() / 2, size = u32(trie_.nodes.size()), steps = 0;
        states_[0] = state;
        for (u32 at = 1; at < size; steps++) {
            const TrieNode& node = trie_.nodes[at];
            u32 next = lexemes_.step(states_[node.depth - 1], node.byte);
            if (next == NOTHING) {
                at = node.end;
                continue;
            }
            states_[node.depth] = next;
            if (node.token != NONE) inside_.push_back(at);
            for (u32 token = node.token; token != NONE; token = trie_.same[token]) {
                scratch_[token >> 5] |= 1u << (token & 31);
                if (count++ < most_few) few.push_back(token);
            }
            if (lexemes_.nullable(next) && node.end > at + 1) crossing->remains.push_back({at, 0});
            at = next == EMPTY ? node.end : at + 1;
        }
        lexemes_.budget->spend(steps / 8);
        drop_needless(crossing->remains);
        crossing->nodes[0].to = u32(crossing->remains.size());
        mask.dense = count > most_few;
        if (mask.dense) {
            mask.row = rows_.make();
            std::copy(scratch_.begin(), scratch_.end(), rows_.get(mask.row));
        } else
            mask.few = std::move(few);
        if (again) return;
        bytes_ += 200 + mask.few.size() * 4 + crossing->remains.size() * 16;
        mask.own = std::move(crossing);
        mask.crossing = mask.own.get();
    }

    // Ends behind which every token is inside anyway need no second look.
    void drop_needless(std::vector<Remains>& remains) {
        size_t kept = 0;
        for (const Remains& one : remains) {
            u32 from = one.node + 1, to = trie_.nodes[one.node].end;
            auto first = std::lower_bound(inside_.begin(), inside_.end(), from);
            size_t inside = size_t(std::lower_bound(first, inside_.end(), to) - first);
            if (inside < trie_.before[to] - trie_.before[from]) remains[kept++] = one;
        }
        remains.resize(kept);
    }

    Lexemes& lexemes_;
    const Trie& trie_;
    Rows& rows_;
    std::unordered_map<u32, LexemeMask> masks_;
    std::unordered_map<u64, std::vector<std::pair<std::array<u32, 3>, std::unique_ptr<Shape>>>> shapes_;
    std::vector<u32> states_, scratch_, inside_;  // inside_: nodes of the trie
    std::vector<Phase> phases_;
    size_t bytes_ = 0;
};

}  // namespace ramify
