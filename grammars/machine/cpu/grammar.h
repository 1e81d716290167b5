// One grammar over one vocabulary: its sets, their masks and forced text, shared by all its matchers.
#pragma once

#include <unordered_set>

#include "lexeme_masks.h"
#include "sets.h"

namespace ramify {

constexpr size_t FORCED_LIMIT = 4096;                // bytes of forced text that are looked for at once
constexpr size_t GRAMMAR_BYTES_LIMIT = 400u << 20;  // of one grammar's sets and positions
constexpr size_t LEXICON_BYTES_LIMIT = 800u << 20;  // of the lexemes of all the grammars that share them

// The lexemes that grammars share, with their masks.
struct Lexicon {
    Lexicon(const Trie& trie, Rows& rows, Budget& budget) : masks(lexemes, trie, rows) { lexemes.budget = &budget; }
    Lexemes lexemes;
    LexemeMasks masks;
};

struct Vocabulary {
    Vocabulary(const u8* data, const u64* offsets, u32 count, u32 size, std::vector<u32> ends, size_t row_bytes)
        : trie(data, offsets, count), size(size), ends(std::move(ends)), rows((size + 31) / 32, row_bytes) {}
    Trie trie;
    u32 size;
    std::vector<u32> ends;
    Rows rows;
};

class Grammar {
  public:
    Grammar(Vocabulary& vocabulary, std::shared_ptr<Lexicon> lexicon, Budget& budget, u32 start)
        : program(start), vocabulary_(vocabulary), lexicon_(std::move(lexicon)), values(lexicon_->lexemes),
          positions_(program, lexicon_->lexemes, values, budget), sets_(positions_, lexicon_->lexemes, values, budget),
          budget_(budget) {}

    Program program;

  private:
    Vocabulary& vocabulary_;
    std::shared_ptr<Lexicon> lexicon_;

  public:
    Values values;

    u32 initial() {
        if (initial_ == NONE) initial_ = sets_.initial();
        return initial_;
    }
    void possible(u32 symbol) { positions_.possible(symbol); }
    Set& set(u32 id) { return sets_[id]; }
    const Trie& trie() const { return vocabulary_.trie; }
    bool is_end(u32 token) const {
        return std::binary_search(vocabulary_.ends.begin(), vocabulary_.ends.end(), token);
    }
    size_t bytes() const { return sets_.bytes() + positions_.bytes() + values.bytes() + program.bytes(); }

    // The set after these bytes; DEAD when the language has no such text.
    u32 advanced(u32 id, const u8* data, size_t size) {
        for (size_t i = 0; i < size && id != DEAD; i++) id = sets_.step(id, data[i]);
        if (bytes() > GRAMMAR_BYTES_LIMIT || lexicon_->lexemes.bytes() > LEXICON_BYTES_LIMIT)
            throw TooLarge{"it needs more memory than is allowed"};
        return id;
    }

    // The row of a set when it is there already, else nullptr.
    u32* known_row(u32 id) {
        Set& set = sets_[id];
        return set.has_row ? vocabulary_.rows.get(set.row) : nullptr;
    }

    // The tokens allowed in a set: a shared row, good while its handle is held or no other row is made.
    RowHandle row(u32 id) {
        Set& set = sets_[id];
        if (set.has_row && vocabulary_.rows.get(set.row)) return set.row;
        if (lexicon_->masks.bytes() > (256u << 20)) lexicon_->masks.clear();
        set.row = masked(id);
        set.has_row = true;
        const u32* words = vocabulary_.rows.get(set.row);
        set.stuck = std::all_of(words, words + vocabulary_.rows.words(), [](u32 word) { return word == 0; });
        return set.row;
    }

    // How many tokens a set allows, looked for up to `limit`, and which. Returns `limit` + 1 when they are more.
    u32 allowed(u32 id, u32 limit, u32* out) {
        const u32* words = vocabulary_.rows.get(row(id));
        if (sets_[id].allowed != NONE && sets_[id].allowed > limit) return limit + 1;
        u32 found = 0;
        for (u32 word = 0; word < vocabulary_.rows.words(); word++)
            for (u32 left = words[word]; left; left &= left - 1) {
                if (found == limit) return limit + 1;
                out[found++] = word * 32 + u32(__builtin_ctz(left));
            }
        sets_[id].allowed = found;
        return found;
    }

    // The bytes that must come next, whatever the tokens.
    size_t forced(u32 id, u8* out, size_t room) {
        size_t found = 0;
        while (found < std::min(room, FORCED_LIMIT) && !sets_[id].accepting) {
            int only = -1;
            for (const Scan& scan : sets_[id].scans) {
                ByteSet onward = lexicon_->lexemes.onward(scan.lexeme);
                for (int word = 0; word < 4; word++)
                    for (u64 left = onward.bits[word]; left; left &= left - 1) {
                        int byte = word * 64 + __builtin_ctzll(left);
                        if (only >= 0 && only != byte) return found;
                        only = byte;
                    }
            }
            if (only < 0) return found;
            out[found++] = u8(only);
            id = sets_.step(id, u8(only));
        }
        return found;
    }

    // Whether the text is complete and nothing may follow.
    bool ends(u32 id) {
        if (!sets_[id].accepting) return false;
        for (const Scan& scan : sets_[id].scans)
            if (!lexicon_->lexemes.onward(scan.lexeme).empty()) return false;
        return true;
    }

  private:
    struct Held {  // a row kept while it is written
        Rows& rows;
        RowHandle handle;
        Held(Rows& rows, RowHandle handle) : rows(rows), handle(handle) { rows.hold(handle); }
        ~Held() { rows.release(handle); }
        Held(const Held&) = delete;
    };

    RowHandle masked(u32 id) {
        Rows& rows = vocabulary_.rows;
        Set& set = sets_[id];
        if (set.scans.size() == 1 && !set.accepting) {
            LexemeMask& mask = lexicon_->masks.of(set.scans[0].lexeme);
            if (mask.dense && mask.crossing->empty()) return mask.row;
        }
        Held row(rows, rows.make());
        under_.clear();
        add(id, 0, row.handle);
        u32* words = rows.get(row.handle);
        if (set.accepting)
            for (u32 token : vocabulary_.ends) words[token >> 5] |= 1u << (token & 31);
        return row.handle;
    }

    // Adds the tokens that may follow in a set, of those behind a node of the trie, which led there.
    void add(u32 id, u32 node, RowHandle row) {
        Rows& rows = vocabulary_.rows;
        u32 size = rows.words();
        for (u32 i = 0; i < sets_[id].scans.size(); i++) {
            const Scan scan = sets_[id].scans[i];
            LexemeMask& mask = lexicon_->masks.under(scan.lexeme, node);
            u32* words = rows.get(row);
            if (mask.dense) {
                const u32* inside = rows.get(mask.row);
                for (u32 word = 0; word < size; word++) words[word] |= inside[word];
            }
            for (u32 token : mask.few) words[token >> 5] |= 1u << (token & 31);
            if (!mask.crossing->empty()) cross(id, scan, mask, node, row);
        }
    }

    struct Place {
        u32 node, set;
        bool open;
    };

    // Adds the tokens that end the lexeme on their way, and go on from the set after it.
    void cross(u32 id, const Scan& scan, const LexemeMask& mask, u32 from, RowHandle row) {
        const Trie& trie = vocabulary_.trie;
        Crossing& crossing = *mask.crossing;
        u32 text = scan.text == NO_RECORD ? NO_RECORD : SOME_TEXT, least = mask.least, most = mask.most;
        u32 after = sets_.after(id, scan, text);
        if (after == DEAD || sets_[after].scans.empty()) return;
        Adding adding{*this, id, trie.nodes[from].depth, vocabulary_.rows.get(row)};
        std::vector<Place> stack{{0, after, sets_[after].open}};
        while (!stack.empty() && !crossing.remains.empty()) {
            Place place = stack.back();
            stack.pop_back();
            crossing.expand(place.node, trie);
            u32 first = crossing.nodes[place.node].child, children = crossing.nodes[place.node].children;
            budget_.spend(1 + children / 4);
            for (u32 child = first; child < first + children; child++) {
                const Crossing::Node& node = crossing.nodes[child];
                u32 next = sets_.step(place.set, node.byte);
                if (next == DEAD) continue;
                bool open = place.open || sets_[next].open, whole = all_below(next, node.below, open);
                for (u32 i = node.from; i < node.to; i++) {
                    Remains one = crossing.remains[i];
                    if (one.count >= least && one.count <= most) adding.node(one.node, open, whole);
                }
                if (!whole) stack.push_back({child, next, open});
            }
        }
        // where a lexeme may end in many places, those after it are much alike: they are walked together
        bool together = text != NO_RECORD || crossing.large.size() > 1;
        for (size_t i = 0; i < crossing.large.size(); i++) {
            Remains one = crossing.large[i];
            if (one.count < least || one.count > most) continue;
            if (text == NO_RECORD && !under_.insert(u64(after) << 32 | one.node).second) continue;
            if (together)
                through(after, one.node, adding);
            else
                add(after, one.node, row);
        }
    }

    // Whether all that is below nodes with these kinds of bytes goes on from a set.
    bool all_below(u32 set, u32 below, bool open) { return !below || (!open && !(below & ~sets_.staying(set))); }

    struct Adding {  // tokens to a row, of those that begin in set `id` after `skip` bytes
        Grammar& grammar;
        u32 id, skip;
        u32* words;

        // The tokens of a node and, when `whole`, all below it; `open`: those that are not refused after all.
        void node(u32 node, bool open, bool whole) {
            const Trie& trie = grammar.vocabulary_.trie;
            u32 to = trie.before[whole ? trie.nodes[node].end : node + 1];
            for (u32 i = trie.before[node]; i < to; i++)
                for (u32 token = trie.tokens[i].token; token != NONE; token = trie.twins ? trie.same[token] : NONE)
                    if (!open || grammar.advanced(id, trie.bytes(token) + skip, trie.length(token) - skip) != DEAD)
                        words[token >> 5] |= 1u << (token & 31);
        }
    };

    // Adds the tokens behind a node that go on from a set.
    void through(u32 after, u32 root, Adding& adding) {
        const Trie& trie = vocabulary_.trie;
        through_.resize(trie.longest + 2);
        through_[trie.nodes[root].depth] = {root, after, sets_[after].open};
        u32 steps = 0;
        for (u32 at = root + 1, end = trie.nodes[root].end; at < end; steps++) {
            const TrieNode& node = trie.nodes[at];
            const Place& before = through_[node.depth - 1];
            u32 next = sets_.step(before.set, node.byte);
            if (next == DEAD) {
                at = node.end;
                continue;
            }
            bool open = before.open || sets_[next].open, whole = all_below(next, node.below, open);
            adding.node(at, open, whole);
            through_[node.depth] = {at, next, open};
            at = whole ? node.end : at + 1;
        }
        budget_.spend(steps / 2);
    }

    std::unordered_set<u64> under_;  // sets and nodes whose tokens are in the row already
    std::vector<Place> through_;     // by depth
    Positions positions_;
    Sets sets_;
    Budget& budget_;
    u32 initial_ = NONE;
};

}  // namespace ramify
