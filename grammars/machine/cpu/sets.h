// Earley's algorithm, a byte at a time, over sets that are kept once: a lazy automaton whose states are item sets.
//
//     [1,2,3      the set after every element is one and the same: equal items make equal sets, since an item's
//                 origin is the set where it began, and SELF for this one
#pragma once

#include "positions.h"
#include "staying.h"

namespace ramify {

constexpr u32 DEAD = 0;              // the set where nothing goes on
constexpr u32 SELF = NONE - 1;       // the origin of what begins in the set itself
constexpr u32 ROOT = NONE - 2;       // what completes when the whole text does
constexpr size_t ITEMS_LIMIT = 20'000;  // of one set
constexpr int MEETS = 8;                // of the partitions of a set's lexemes; with more, each byte is for itself

struct Scan {  // a lexeme being read: its automaton's state, and what goes on where it ends
    u32 lexeme, target, completes, origin, text;
    bool operator==(const Scan& o) const {
        return lexeme == o.lexeme && target == o.target && completes == o.completes && origin == o.origin && text == o.text;
    }
    bool operator<(const Scan& o) const {
        if (lexeme != o.lexeme) return lexeme < o.lexeme;
        if (target != o.target) return target < o.target;
        if (completes != o.completes) return completes < o.completes;
        return origin != o.origin ? origin < o.origin : text < o.text;
    }
};

struct Item {  // a definition at `position`; when it is complete, so is `completes`, begun at `origin`
    u32 position, completes, origin;
    bool operator==(const Item& o) const {
        return position == o.position && completes == o.completes && origin == o.origin;
    }
    bool operator<(const Item& o) const {
        if (position != o.position) return position < o.position;
        return completes != o.completes ? completes < o.completes : origin < o.origin;
    }
};

struct Waiting {  // goes on when `symbol`, begun in this set, is complete
    u32 symbol;
    Item item;
    bool operator==(const Waiting& o) const { return symbol == o.symbol && item == o.item; }
    bool operator<(const Waiting& o) const { return symbol != o.symbol ? symbol < o.symbol : item < o.item; }
};

struct Set {
    std::vector<Scan> scans;
    std::vector<Waiting> waiting;
    bool accepting = false, open = false;  // open: it depends on a text left open
    u32 partition = NONE;                  // of the bytes, for `next`
    std::vector<u32> next;                 // by class of byte
    RowHandle row;
    bool has_row = false, stuck = false;  // stuck: no token at all is allowed
    u32 allowed = NONE;  // how many tokens its row allows
    u32 staying = 0, asked = 0;  // see Sets::staying, and how often that was asked
};

class Sets {
  public:
    Sets(Positions& positions, Lexemes& lexemes, Values& values, Budget& budget)
        : positions_(positions), lexemes_(lexemes), values_(values), budget_(budget) {
        all_.push_back({});
    }
    Set& operator[](u32 id) { return all_[id]; }
    size_t bytes() const { return bytes_; }

    // Where every text begins; DEAD when the language is empty.
    u32 initial() {
        begin();
        arrive({positions_.at(ROOT_SYMBOL, {}), ROOT, NONE - 3});
        u32 set = closed();
        return all_[set].scans.empty() && !all_[set].accepting ? DEAD : set;
    }

    // The set after one more byte.
    u32 step(u32 id, u8 byte) {
        Set& set = all_[id];
        if (set.partition == NONE) prepare(set);
        u32& slot = set.next[lexemes_.nodes.partitions[set.partition].of[byte]];
        if (slot == NONE) slot = stepped(id, byte);  // references to sets stay good
        return slot;
    }

    // Kinds of characters of which no text leads to the set where nothing goes on.
    u32 staying(u32 id) {
        Set& set = all_[id];
        u32 asked = set.asked++;
        if (asked == 0)
            for (const Scan& scan : set.scans) {
                u32 kinds = staying_.kinds(scan.lexeme);
                if (__builtin_popcount(kinds) > __builtin_popcount(set.staying)) set.staying = kinds;
            }
        else if (!set.staying && set.partition != NONE && asked < 256 && !(asked & (asked - 1)))
            set.staying = round(id);
        return set.staying;
    }

    // The set when a lexeme of `id` has ended some bytes on, with `text` recorded, and nothing else went on.
    u32 after(u32 id, const Scan& scan, u32 text) {
        begin();
        u32 target = text == NO_RECORD ? scan.target : positions_.with_value(scan.target, text);
        arrive({target, scan.completes, scan.origin == SELF ? id : scan.origin});
        return closed();
    }

  private:
    // Kinds of bytes after which it is the same set, as far as anybody looked.
    u32 round(u32 id) const {
        const Set& set = all_[id];
        const Partition& partition = lexemes_.nodes.partitions[set.partition];
        u32 away = NOT_ASCII;
        for (u32 byte = 0; byte < 128; byte++)
            if (set.next[partition.of[byte]] != id) away |= ascii_kinds()[byte];
        return ~away;
    }

    void prepare(Set& set) {
        Partitions& partitions = lexemes_.nodes.partitions;
        u32 partition = partitions.whole(), last = partition;
        int meets = 0;
        for (const Scan& scan : set.scans) {
            u32 one = lexemes_.nodes[scan.lexeme].partition;
            if (one != last && one != partition) {
                last = one;
                partition = ++meets > MEETS ? partitions.identity() : partitions.meet(partition, one);
            }
            if (scan.text != NO_RECORD) partition = partitions.identity();
            if (partition == partitions.identity()) break;
        }
        set.next.assign(lexemes_.nodes.partitions[partition].classes, NONE);
        bytes_ += set.next.size() * 4;
        set.partition = partition;
    }

    u32 stepped(u32 id, u8 byte) {
        begin();
        const Set& set = all_[id];
        budget_.spend(set.scans.size());
        for (const Scan& scan : set.scans) {
            u32 following = lexemes_.step(scan.lexeme, byte);
            if (following == NOTHING) continue;
            u32 origin = scan.origin == SELF ? id : scan.origin;
            u32 text = scan.text == NO_RECORD ? NO_RECORD : values_.longer(scan.text, byte);
            if (!lexemes_.nodes[following].first.empty())
                scans_.push_back({following, scan.target, scan.completes, origin, text});
            if (lexemes_.nullable(following))
                arrive({text == NO_RECORD ? scan.target : positions_.with_value(scan.target, text), scan.completes, origin});
        }
        return closed();
    }

    void begin() {
        scans_.clear();
        waiting_.clear();
        agenda_.clear();
        seen_.clear();
        seen_index_.clear();
        empty_.clear();
        accepting_ = open_ = false;
    }

    void arrive(const Item& item) { agenda_.push_back(item); }

    bool seen_before(const Item& item) {
        if (seen_.size() < 16) {
            for (const Item& one : seen_)
                if (one == item) return true;
        } else {
            if (seen_.size() == 16)
                for (u32 i = 0; i < 16; i++) seen_index_.insert(hash(seen_[i]), i);
            if (seen_index_.find(hash(item), [&](u32 i) { return seen_[i] == item; }) != NONE) return true;
            seen_index_.insert(hash(item), u32(seen_.size()));
        }
        seen_.push_back(item);
        return false;
    }
    static u64 hash(const Item& item) {
        return mixed(mixed(mixed(23, item.position), item.completes), item.origin);
    }

    // The set of all that follows from what arrived without reading a byte.
    u32 closed() {
        if (agenda_.empty() && scans_.empty()) return DEAD;
        while (!agenda_.empty()) {
            Item item = agenda_.back();
            agenda_.pop_back();
            if (seen_before(item)) continue;
            if (seen_.size() > ITEMS_LIMIT)
                throw TooLarge{"more than 20000 ways to read the same text so far; make the grammar less ambiguous"};
            const Position& position = positions_.opened(item.position);
            budget_.spend(2 + position.steps.size());
            if (position.complete) complete(item);
            for (const Step& step : position.steps) {
                if (step.lexeme != NONE) {
                    u32 text = step.recorded ? 0 : NO_RECORD;
                    if (!lexemes_.nodes[step.lexeme].first.empty())
                        scans_.push_back({step.lexeme, step.target, item.completes, item.origin, text});
                    open_ |= step.open;
                    if (lexemes_.nullable(step.lexeme) && !positions_.solid(step.target))
                        arrive({step.recorded ? positions_.with_value(step.target, 0) : step.target, item.completes,
                                item.origin});
                } else if (item.origin != SELF && positions_.is_end(step.target)) {
                    // nothing comes after it: it completes what this would, so that no chain grows with the text
                    arrive({positions_.first(step.symbol), item.completes, item.origin});
                } else
                    wait(step.symbol, {step.target, item.completes, item.origin});
            }
        }
        return kept();
    }

    void complete(const Item& item) {
        if (item.completes == ROOT) {
            accepting_ = true;
        } else if (item.origin != SELF) {
            const std::vector<Waiting>& there = all_[item.origin].waiting;
            auto at = std::lower_bound(there.begin(), there.end(), Waiting{item.completes, {0, 0, 0}});
            for (; at != there.end() && at->symbol == item.completes; ++at) {
                Item next = at->item;
                if (next.origin == SELF) next.origin = item.origin;
                arrive(next);
            }
        } else if (std::find(empty_.begin(), empty_.end(), item.completes) == empty_.end()) {
            empty_.push_back(item.completes);
            for (const Waiting& one : waiting_)
                if (one.symbol == item.completes && !positions_.solid(one.item.position)) arrive(one.item);
        }
    }

    void wait(u32 symbol, const Item& item) {
        waiting_.push_back({symbol, item});
        if (waiting_.size() > 4 * ITEMS_LIMIT)
            throw TooLarge{"too many definitions wait for each other in one place; make the grammar less ambiguous"};
        if (std::find(empty_.begin(), empty_.end(), symbol) != empty_.end() && !positions_.solid(item.position))
            arrive(item);
        arrive({positions_.first(symbol), symbol, SELF});
    }

    u32 kept() {
        std::sort(scans_.begin(), scans_.end());
        scans_.erase(std::unique(scans_.begin(), scans_.end()), scans_.end());
        std::sort(waiting_.begin(), waiting_.end());
        waiting_.erase(std::unique(waiting_.begin(), waiting_.end()), waiting_.end());
        u64 key = mixed(scans_.size() * 4 + accepting_ * 2 + open_, waiting_.size());
        for (const Scan& scan : scans_)
            key = mixed(mixed(mixed(mixed(mixed(key, scan.lexeme), scan.target), scan.completes), scan.origin), scan.text);
        for (const Waiting& one : waiting_) key = mixed(mixed(key, one.symbol), hash(one.item));
        u32 found = index_.find(key, [&](u32 id) {
            const Set& set = all_[id];
            return set.accepting == accepting_ && set.open == open_ && set.scans == scans_ && set.waiting == waiting_;
        });
        if (found != NONE) return found;
        Set& fresh = all_.push_back({});
        fresh.scans = scans_;
        fresh.waiting = waiting_;
        fresh.accepting = accepting_;
        fresh.open = open_;
        bytes_ += sizeof(Set) + scans_.size() * sizeof(Scan) + waiting_.size() * sizeof(Waiting) + 32;
        index_.insert(key, u32(all_.size() - 1));
        return u32(all_.size() - 1);
    }

    Positions& positions_;
    Lexemes& lexemes_;
    Values& values_;
    Budget& budget_;
    Staying staying_{lexemes_};
    Stable<Set> all_;
    HashIndex index_;
    std::vector<Scan> scans_;
    std::vector<Waiting> waiting_;
    std::vector<Item> agenda_, seen_;
    HashIndex seen_index_;
    std::vector<u32> empty_;
    bool accepting_ = false, open_ = false;
    size_t bytes_ = 0;
};

}  // namespace ramify
