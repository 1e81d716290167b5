// What tokens may follow in a state of a lexeme: those that stay inside it, and where others cross its end.
#pragma once

#include <unordered_map>

#include "counts.h"
#include "token_walk.h"

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
    LexemeMasks(Lexemes& lexemes, const Trie& trie, Rows& rows)
        : lexemes_(lexemes), trie_(trie), rows_(rows), counts_(lexemes, trie), walk_(lexemes, trie) {
        states_.resize(trie.longest + 2);
        beside_.resize(trie.longest + 2);
        scratch_.resize(rows.words());
        every_.resize(rows.words());
        for (TrieToken one : trie.tokens)
            for (u32 token = one.token; token != NONE; token = trie.same[token]) every_[token >> 5] |= 1u << (token & 31);
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
        if (word(state, mask)) return;
        Counted counted;
        if (counts_.recognized(state, counted) && !counts_.easy(counted)) {
            if (Shape* shape = counts_.shape(counted)) {
                mask.least = counted.others == ANYTHING ? counted.least : 0;
                mask.most = counted.most;
                return slice(*shape, mask);
            }
        }
        u32 base = without_complements(state);
        if (base != state) {
            LexemeMask& other = of(base);
            if (other.dense && !other.shape) {
                u32 words = excluded(state);
                return words == NOTHING ? walk_part(state, base, mask) : walk_but(words, base, mask);
            }
        }
        walk(state, mask, 0);
    }

    // One word, as far as tokens go: its beginnings are tokens, and no walk is needed.
    bool word(u32 state, LexemeMask& mask) {
        const Expressions& nodes = lexemes_.nodes;
        Found found;
        for (u32 at = 0; at != NONE && state != EMPTY;) {
            u32 head = nodes[state].kind == CAT ? nodes[state].a : state;
            int byte = nodes[head].kind == SET ? nodes[head].first.only() : -1;
            if (byte < 0) return false;
            state = nodes[state].kind == CAT ? nodes[state].b : EMPTY;
            at = trie_.child(at, u8(byte));
            if (at == NONE) break;
            for (u32 token = trie_.nodes[at].token; token != NONE; token = trie_.same[token]) found.few.push_back(token);
            if (state == EMPTY && trie_.nodes[at].below) found.remains.push_back({at, 0});
        }
        keep(found, mask);
        return true;
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

    // What its complements exclude, when that is made of words no longer than some bound; else NOTHING.
    u32 excluded(u32 state) {
        Expressions& nodes = lexemes_.nodes;
        u32 tail = EMPTY;
        if (nodes[state].kind == CAT) {  // (B but not L) T is BT but not LT where all of T's strings are as long
            tail = nodes[state].b;
            state = nodes[state].a;
            if (nodes[tail].hard || nodes[tail].shortest != nodes[tail].longest) return NOTHING;
        }
        if (nodes[state].kind != AND) return NOTHING;
        std::vector<u32> ways;
        for (u32 i = 0; i < nodes[state].b; i++) {
            u32 part = nodes.parts(state)[i];
            if (nodes[part].kind == NOT) ways.push_back(nodes[part].a);
        }
        u32 words = nodes.concat(nodes.either(std::move(ways)), tail);
        return nodes[words].hard || nodes[words].longest >= INFINITE ? NOTHING : words;
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
        walk_.run(state, root);
        Span all{trie_.before[root + 1], trie_.before[trie_.nodes[root].end]};
        u32 count = all.to - all.from - walk_.outside.count();
        Found found;
        found.dense = count > rows_.words() / 2;
        if (found.dense)
            spread(all, count);
        else
            walk_.outside.between(all, [&](Span span) {
                for (u32 i = span.from; i < span.to; i++)
                    for (u32 token = trie_.tokens[i].token; token != NONE; token = trie_.same[token])
                        found.few.push_back(token);
            });
        u32 behind = 0;
        for (u32 node : walk_.ends) {
            found.remains.push_back({node, 0});
            behind += trie_.nodes[node].end - node;
        }
        keep(found, mask);
        if (behind > 3000 && mask.own && !mask.own->outside) {
            mask.own->outside = std::make_unique<Outside>(walk_.outside);
            bytes_ += walk_.outside.spans.size() * 8;
        }
    }

    // The bits of the tokens inside, to scratch_: from none or from all, whichever is nearer.
    void spread(Span all, u32 count) {
        bool most = count > trie_.tokens.size() / 2;
        if (most)
            std::copy(every_.begin(), every_.end(), scratch_.begin());
        else
            std::fill(scratch_.begin(), scratch_.end(), 0u);
        auto flip = [&](Span span) {
            for (u32 i = span.from; i < span.to; i++)
                for (u32 token = trie_.tokens[i].token; token != NONE; token = trie_.twins ? trie_.same[token] : NONE)
                    scratch_[token >> 5] ^= 1u << (token & 31);
        };
        if (!most) return walk_.outside.between(all, flip);
        flip({0, all.from});
        for (Span span : walk_.outside.spans) flip(span);
        flip({all.to, u32(trie_.tokens.size())});
    }

    struct Beside {  // a state beside that of a larger language, after one more byte
        u32 state;
        bool same, alive, ends;
    };

    // The same for a state whose language is part of `base`'s: only where the two are in different states is walked.
    void walk_part(u32 state, u32 base, LexemeMask& mask) {
        walk_beside(state, base, mask, [&](u32 before, u8 byte, u32 there) {
            u32 here = before == NOTHING ? NOTHING : lexemes_.step(before, byte);
            return Beside{here, here == there, here != NOTHING, lexemes_.nullable(here)};
        });
    }

    // The same for `base` but some words: only where a word may go on is walked.
    void walk_but(u32 words, u32 base, LexemeMask& mask) {
        Expressions& nodes = lexemes_.nodes;
        walk_beside(words, base, mask, [&](u32 before, u8 byte, u32 there) {
            u32 word = lexemes_.step(before, byte);
            if (word == NOTHING || there == NOTHING) return Beside{NOTHING, true, false, false};
            bool longer = !nodes[there].hard && nodes[there].longest > nodes[word].longest;
            bool alive = longer || lexemes_.alive(nodes.both({there, nodes.complement(word)}));
            return Beside{word, false, alive, lexemes_.nullable(there) && !lexemes_.nullable(word)};
        });
    }

    template <class Step>
    void walk_beside(u32 start, u32 base, LexemeMask& mask, Step step) {
        LexemeMask& other = masks_.at(base);
        const u32* row = rows_.get(other.row);
        std::copy(row, row + rows_.words(), scratch_.begin());
        apart_.clear();
        bool same_ends = !other.own || !other.own->outside;
        u32 steps = 0, size = u32(trie_.nodes.size());
        states_[0] = start;
        beside_[0] = base;
        for (u32 at = 1; at < size; steps++) {
            const TrieNode& node = trie_.nodes[at];
            u32 there = lexemes_.step(beside_[node.depth - 1], node.byte);
            Beside here = step(states_[node.depth - 1], node.byte, there);
            if (here.same) {
                at = node.end;
                continue;
            }
            states_[node.depth] = here.state;
            beside_[node.depth] = there;
            if (!here.alive)
                for (u32 token = node.token; token != NONE; token = trie_.same[token])
                    scratch_[token >> 5] &= ~(1u << (token & 31));
            bool ends = here.alive && here.ends && node.end > at + 1;
            same_ends = same_ends && ends == ends_at(*other.crossing, at);
            apart_.push_back({at, ends});
            at++;
        }
        lexemes_.budget->spend(steps / 8);
        Found found;
        found.dense = true;  // not counted
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

    struct Found {  // by a walk; when many, the tokens' bits are in scratch_
        bool dense = false;
        std::vector<u32> few;
        std::vector<Remains> remains;
    };

    void keep(Found& found, LexemeMask& mask) {
        mask.dense = found.dense;
        if (mask.dense) {
            mask.row = rows_.make();
            std::copy(scratch_.begin(), scratch_.end(), rows_.get(mask.row));
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
        mask.own->nodes.push_back({0, u32(mask.own->remains.size()), 0, 0, 0, 0, false});
        mask.crossing = mask.own.get();
    }

    Lexemes& lexemes_;
    const Trie& trie_;
    Rows& rows_;
    std::unordered_map<u64, LexemeMask> masks_;
    Counts counts_;
    std::vector<std::pair<u32, bool>> apart_;  // nodes where two states differ, and whether the first may end there
    TokenWalk walk_;
    std::vector<u32> states_, beside_, scratch_, every_;  // every_: all of the trie's tokens
    Crossing nothing_;
    size_t bytes_ = 0;
};

}  // namespace ramify
