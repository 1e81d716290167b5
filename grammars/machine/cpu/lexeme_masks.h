// What tokens may follow in a state of a lexeme: those that stay inside it, and where others cross its end.
#pragma once

#include <unordered_map>

#include "counts.h"

namespace ramify {

struct LexemeMask {
    bool dense = false;
    RowHandle row;           // when dense
    std::vector<u32> few;    // when not
    Crossing* crossing = nullptr;
    u32 least = 0, most = ENDLESS;  // the crossings to take, by count
    Shape* shape = nullptr;
    std::shared_ptr<Crossing> own;  // shared by those that end at the same nodes
};

class LexemeMasks {
  public:
    LexemeMasks(Lexemes& lexemes, const Trie& trie, Rows& rows) : lexemes_(lexemes), trie_(trie), rows_(rows), counts_(lexemes, trie) {
        states_.resize(trie.longest + 2);
        beside_.resize(trie.longest + 2);
        scratch_.resize(rows.words() + 1);
    }

    // The mask of a state; good until the next call. Its row, when dense, is there now.
    LexemeMask& of(u32 state) { return under(state, 0); }

    // The same for what is left of the tokens behind a node of the trie.
    LexemeMask& under(u32 state, u32 node) {
        u64 key = u64(node) << 32 | state;
        auto added = masks_.try_emplace(key);
        LexemeMask& mask = added.first->second;
        bool stale = !added.second && mask.dense && !rows_.get(mask.row);
        if (added.second || stale) {
            try {
                if (node)
                    walk(state, mask, node);
                else
                    make(state, mask);
            } catch (...) {
                masks_.erase(key);
                throw;
            }
        }
        return mask;
    }
    size_t bytes() const { return bytes_ + counts_.bytes(); }

    // Forget everything; masks handed out are no longer good.
    void clear() {
        masks_.clear();
        counts_.clear();
        bytes_ = 0;
    }

  private:
    void make(u32 state, LexemeMask& mask) {
        Counted counted;
        if (counts_.recognized(state, counted)) {
            if (Shape* shape = counts_.shape(counted)) {
                mask.least = counted.others == ANYTHING ? counted.least : 0;
                mask.most = counted.most;
                return slice(*shape, mask);
            }
        }
        u32 base = without_complements(state);
        if (base != state) {
            LexemeMask& other = of(base);
            if (other.dense && !other.shape) return walk_beside(state, base, mask);
        }
        walk(state, mask, 0);
    }

    // A larger language, without complements, which usually exclude a few words: the state itself where it has none.
    u32 without_complements(u32 state) {
        Expressions& nodes = lexemes_.nodes;
        if (!nodes[state].hard) return state;
        if (nodes[state].kind == CAT) {
            u32 tail = nodes[state].b, head = without_complements(nodes[state].a);
            return nodes.concat(head, tail);
        }
        if (nodes[state].kind != AND) return state;
        std::vector<u32> parts;
        for (u32 i = 0; i < nodes[state].b; i++)
            if (nodes[nodes.parts(state)[i]].kind != NOT) parts.push_back(nodes.parts(state)[i]);
        if (parts.size() == nodes[state].b || parts.empty()) return state;
        return nodes.both(parts);
    }

    void slice(Shape& shape, LexemeMask& mask) {
        mask.shape = &shape;
        mask.crossing = &shape.crossing;
        const std::vector<u32>&stay = shape.staying.tokens, &gone = shape.gone.tokens;
        u32 staying = shape.staying.from(u64(mask.most) + 1);
        u32 gone_from = shape.gone.from(mask.least), gone_to = std::max(gone_from, shape.gone.from(u64(mask.most) + 1));
        u32 total = staying + gone_to - gone_from;
        if (total <= rows_.words() / 2) {
            mask.few.assign(stay.begin(), stay.begin() + staying);
            mask.few.insert(mask.few.end(), gone.begin() + gone_from, gone.begin() + gone_to);
            bytes_ += 100 + mask.few.size() * 4;
            return;
        }
        mask.dense = true;
        if (!rows_.get(shape.all)) {
            RowHandle handle = rows_.make();
            u32* words = rows_.get(handle);
            for (u32 token : stay) words[token >> 5] |= 1u << (token & 31);
            shape.all = handle;
        }
        if (staying == stay.size() && gone_from == gone_to) {
            mask.row = shape.all;
            return;
        }
        rows_.hold(shape.all);
        RowHandle handle = rows_.make();
        rows_.release(shape.all);
        u32 *words = rows_.get(handle), *all = rows_.get(shape.all);
        if (staying * 2u > stay.size()) {
            std::copy(all, all + rows_.words(), words);
            for (u32 i = staying; i < stay.size(); i++)
                words[stay[i] >> 5] &= ~(1u << (stay[i] & 31));
        } else
            for (u32 i = 0; i < staying; i++) words[stay[i] >> 5] |= 1u << (stay[i] & 31);
        for (u32 i = gone_from; i < gone_to; i++) words[gone[i] >> 5] |= 1u << (gone[i] & 31);
        mask.row = handle;
    }

    // A walk of the tokens behind a node through the state's automaton.
    void walk(u32 state, LexemeMask& mask, u32 root) {
        Found found(rows_.words());
        met_.resize(trie_.nodes.size() + 1);  // once: it stays as large
        u32 steps = 0, met = 0, no_token = rows_.words() * 32;  // a bit behind the row's
        dense_.begin();
        states_[trie_.nodes[root].depth] = dense_.number(state, lexemes_);
        std::fill(scratch_.begin(), scratch_.end(), 0u);
        const ByteSet first = lexemes_.nodes[state].first;
        auto walk_from = [&](u32 at, u32 end) {
            for (; at < end; steps++) {
                const TrieNode& node = trie_.nodes[at];
                u32 next = dense_.step(states_[node.depth - 1], node.byte, lexemes_);
                if (next == 0) {
                    at = node.end;
                    continue;
                }
                states_[node.depth] = next;
                // without a branch: whether a node has a token cannot be foreseen
                u32 token = std::min(node.token, no_token);
                scratch_[token >> 5] |= 1u << (token & 31);
                met_[met] = at;
                met += token != no_token;
                if (u8 flags = dense_.flags(next)) {
                    if (flags & Dense::NULLABLE && node.end > at + 1) found.remains.push_back({at, 0});
                    if (flags & Dense::OVER) {
                        at = node.end;
                        continue;
                    }
                }
                at++;
            }
        };
        if (root)
            walk_from(root + 1, trie_.nodes[root].end);
        else
            for (int byte = 0; byte < 256; byte++)
                if (first.has(u8(byte)) && trie_.first[byte] != NONE)
                    walk_from(trie_.first[byte], trie_.nodes[trie_.first[byte]].end);
        lexemes_.budget->spend(steps / 8);
        inside_.assign(met_.begin(), met_.begin() + met);
        scratch_.back() = 0;
        for (u32 node : inside_) {
            if (found.count > found.most_few && !trie_.twins) break;
            for (u32 token = trie_.nodes[node].token; token != NONE; token = trie_.same[token]) found.add(token, scratch_);
        }
        drop_needless(found.remains);
        u32 behind = 0;
        for (const Remains& one : found.remains) behind += trie_.nodes[one.node].end - one.node;
        bool much = behind > 3000;
        keep(found, mask);
        if (much && mask.own && mask.own->inside.empty()) {
            mask.own->inside = inside_;
            bytes_ += inside_.size() * 4;
        }
    }

    // The same for a state whose language is part of `base`'s: only where the two are in different states is walked.
    void walk_beside(u32 state, u32 base, LexemeMask& mask) {
        LexemeMask& other = masks_.at(base);
        const u32* row = rows_.get(other.row);
        std::copy(row, row + rows_.words(), scratch_.begin());
        apart_.clear();
        bool same_ends = !other.own || other.own->inside.empty();
        u32 steps = 0, size = u32(trie_.nodes.size());
        states_[0] = state;
        beside_[0] = base;
        for (u32 at = 1; at < size; steps++) {
            const TrieNode& node = trie_.nodes[at];
            u32 there = lexemes_.step(beside_[node.depth - 1], node.byte), before = states_[node.depth - 1];
            u32 here = before == NOTHING ? NOTHING : lexemes_.step(before, node.byte);
            if (here == there) {
                at = node.end;
                continue;
            }
            states_[node.depth] = here;
            beside_[node.depth] = there;
            if (here == NOTHING)
                for (u32 token = node.token; token != NONE; token = trie_.same[token])
                    scratch_[token >> 5] &= ~(1u << (token & 31));
            bool ends = here != NOTHING && lexemes_.nullable(here) && node.end > at + 1;
            same_ends = same_ends && ends == ends_at(*other.crossing, at);
            apart_.push_back({at, ends});
            at++;
        }
        lexemes_.budget->spend(steps / 8);
        Found found(rows_.words());
        found.count = found.most_few + 1;  // taken as many: not counted
        if (same_ends && !mask.crossing) {
            mask.own = other.own;
            mask.crossing = other.crossing;
            bytes_ += 200;
        } else
            remains_apart(*other.crossing, found.remains);
        keep(found, mask);
    }

    static bool ends_at(const Crossing& crossing, u32 node) {
        if (crossing.empty()) return false;
        auto before = [](const Remains& one, u32 at) { return one.node < at; };
        auto few_end = crossing.remains.begin() + crossing.nodes[0].to;
        auto few = std::lower_bound(crossing.remains.begin(), few_end, node, before);
        auto large = std::lower_bound(crossing.large.begin(), crossing.large.end(), node, before);
        return (few != few_end && few->node == node) || (large != crossing.large.end() && large->node == node);
    }

    // The ends of a base, but at the nodes in apart_ those that are said there.
    void remains_apart(const Crossing& base, std::vector<Remains>& remains) {
        std::vector<Remains> others;
        if (!base.empty()) {
            auto few_end = base.remains.begin() + base.nodes[0].to;
            others.resize(size_t(few_end - base.remains.begin()) + base.large.size());
            std::merge(base.remains.begin(), few_end, base.large.begin(), base.large.end(), others.begin(),
                       [](auto& a, auto& b) { return a.node < b.node; });
        }
        size_t at_other = 0;
        for (auto [node, ends] : apart_) {
            while (at_other < others.size() && others[at_other].node < node) remains.push_back(others[at_other++]);
            if (at_other < others.size() && others[at_other].node == node) at_other++;
            if (ends) remains.push_back({node, 0});
        }
        remains.insert(remains.end(), others.begin() + long(at_other), others.end());
    }

    // The states of one walk, numbered as they turn up, each with its transitions by byte: one look-up a step.
    class Dense {
      public:
        static constexpr u8 NULLABLE = 1, OVER = 2;  // OVER: nothing may come any more
        void begin() {
            states_.assign(1, NOTHING);
            flags_.assign(1, 0);
            numbers_.clear();
            next_.resize(256);
        }
        u32 number(u32 state, const Lexemes& lexemes) {
            if (state == NOTHING) return 0;
            auto added = numbers_.try_emplace(state, u32(states_.size()));
            if (added.second) {
                states_.push_back(state);
                flags_.push_back(u8(lexemes.nullable(state) * NULLABLE | (state == EMPTY) * OVER));
                next_.resize(states_.size() * 256);
                std::fill(next_.end() - 256, next_.end(), UNKNOWN);
            }
            return added.first->second;
        }
        u8 flags(u32 number) const { return flags_[number]; }
        u32 step(u32 number_, u8 byte, Lexemes& lexemes) {
            u32 found = next_[number_ * 256 + byte];
            if (found != UNKNOWN) return found;
            found = number(lexemes.step(states_[number_], byte), lexemes);
            return next_[number_ * 256 + byte] = found;
        }

      private:
        std::vector<u32> states_, next_;
        std::vector<u8> flags_;
        std::unordered_map<u32, u32> numbers_;
    } dense_;

    struct Found {  // by a walk; the tokens' bits are in scratch_
        explicit Found(u32 words) : most_few(words / 2) {}
        std::vector<u32> few;
        std::vector<Remains> remains;
        u32 count = 0, most_few;
        void add(u32 token, std::vector<u32>& scratch) {
            scratch[token >> 5] |= 1u << (token & 31);
            if (count++ < most_few) few.push_back(token);
        }
    };

    void keep(Found& found, LexemeMask& mask) {
        mask.dense = found.count > found.most_few;
        if (mask.dense) {
            mask.row = rows_.make();
            std::copy(scratch_.begin(), scratch_.end() - 1, rows_.get(mask.row));
        } else
            mask.few = std::move(found.few);
        if (mask.crossing != &nothing_ && mask.crossing) return;  // only its row was gone
        bytes_ += 200 + mask.few.size() * 4 + found.remains.size() * 16;
        if (found.remains.empty()) {
            mask.crossing = &nothing_;
            return;
        }
        mask.own = std::make_shared<Crossing>();
        for (const Remains& one : found.remains)
            (trie_.nodes[one.node].end - one.node > LARGE ? mask.own->large : mask.own->remains).push_back(one);
        mask.own->nodes.push_back({0, u32(mask.own->remains.size()), 0, 0, 0, false});
        mask.crossing = mask.own.get();
    }

    // Ends behind which every token is inside anyway need no second look.
    void drop_needless(std::vector<Remains>& remains) {
        size_t kept = 0;
        for (const Remains& one : remains) {
            if (!Crossing::all_inside(inside_, trie_, one.node + 1, trie_.nodes[one.node].end)) remains[kept++] = one;
        }
        remains.resize(kept);
    }

    Lexemes& lexemes_;
    const Trie& trie_;
    Rows& rows_;
    std::unordered_map<u64, LexemeMask> masks_;
    Counts counts_;
    std::vector<std::pair<u32, bool>> apart_;  // nodes where two states differ, and whether the first may end there
    std::vector<u32> states_, beside_, scratch_, met_, inside_;  // the last two: nodes of the trie
    Crossing nothing_;
    size_t bytes_ = 0;
};

}  // namespace ramify
