// A JSON object while it is written: which members may come next so that it can still be completed.
#pragma once

#include <functional>
#include <set>

#include "definitions.h"

namespace ramify {

using Bits = std::vector<u32>;
using Ask = std::function<bool(u32)>;  // whether a definition has any string

inline bool has(const Bits& bits, u32 at) { return bits[at >> 5] >> (at & 31) & 1; }
inline void put(Bits& bits, u32 at) { bits[at >> 5] |= 1u << (at & 31); }
inline bool any(const Bits& bits) {
    for (u32 word : bits)
        if (word) return true;
    return false;
}
inline u32 count(const Bits& bits) {
    u32 total = 0;
    for (u32 word : bits) total += u32(__builtin_popcount(word));
    return total;
}
template <class Do>
void each(const Bits& bits, Do what) {
    for (u32 word = 0; word < bits.size(); word++)
        for (u32 left = bits[word]; left; left &= left - 1) what(word * 32 + u32(__builtin_ctz(left)));
}

// What may come next: `symbol`, after which the definition stands at `state`. See positions.py of the Python machine.
struct Way {
    u32 symbol;
    std::vector<u32> state;
    u32 used;       // a set of values that this lexeme may not spell
    bool recorded;  // what it spells is added to `used` of the state after it
    bool solid;     // where it is the empty string, this way is not gone
};

struct Ways {
    std::vector<Way> ways;
    bool complete = false;
};

enum ObjectPhase : u32 { FIRST_KEY = 1, KEY, COLON, VALUE, AFTER_MEMBER, OBJECT_DONE };

// As numbers: phase, used, next, total, value, then the bits of `taken` and of `pending`, then the counts of others.
struct ObjectState {
    u32 phase = FIRST_KEY, used = 0, next = 0, total = 0, value = 0;
    Bits taken, pending;
    std::vector<u32> counts;

    std::vector<u32> numbers() const {
        std::vector<u32> all{phase, used, next, total, value};
        all.insert(all.end(), taken.begin(), taken.end());
        all.insert(all.end(), pending.begin(), pending.end());
        all.insert(all.end(), counts.begin(), counts.end());
        return all;
    }
};

// The automaton of one Object definition: objects.py of the Python machine, rule for rule.
class ObjectFrame {
  public:
    ObjectFrame(const Definition& definition, const Ask& possible)
        : d_(definition), possible_(possible), words_(u32(definition.members.size() + 31) / 32) {}

    // What members need through others, worked out once when the definition is made.
    static void prepare(Definition& d) {
        u32 members = u32(d.members.size()), words = (members + 31) / 32;
        d.closed.assign(members, Bits(words));
        d.must.assign(words, 0);
        bool needs = false;
        for (u32 i = 0; i < members; i++) {
            for (u32 need : d.members[i].needs) {
                put(d.closed[i], need);
                needs = true;
            }
            if (d.members[i].required) put(d.must, i);
        }
        d.needy = needs;
        if (!needs) return;
        for (u32 middle = 0; middle < members; middle++)
            if (any(d.closed[middle]))
                for (u32 i = 0; i < members; i++)
                    if (has(d.closed[i], middle)) add(d.closed[i], d.closed[middle]);
        for (u32 i = 0; i < members; i++) {
            if (has(d.must, i)) add(d.must, d.closed[i]);
            each(d.closed[i], [&](u32 other) { d.circular |= other != i && has(d.closed[other], i); });
        }
    }

    bool completable() { return feasible(start()); }

    // The definitions that `ways` will ask about.
    std::vector<u32> soon(const std::vector<u32>& numbers) {
        std::vector<u32> found;
        if (numbers.empty() || numbers[0] > KEY) return found;
        ObjectState state = parsed(numbers);
        Bits lacking = missing(state);
        for (u32 i = state.next; i < d_.members.size(); i++) {
            if (has(state.taken, i)) continue;
            found.push_back(d_.members[i].key);
            found.push_back(d_.members[i].value);
            if (d_.ordered && has(lacking, i)) return found;
        }
        for (const Others& others : d_.others) {
            found.push_back(others.key);
            found.push_back(others.value);
        }
        return found;
    }

    Ways ways(const std::vector<u32>& numbers) {
        if (numbers.empty()) {
            if (!completable()) return {};
            return {{{d_.opening, start().numbers(), 0, false, false}}, false};
        }
        ObjectState state = parsed(numbers);
        Ways found;
        switch (state.phase) {
            case OBJECT_DONE: found.complete = true; return found;
            case COLON:
                state.phase = VALUE;
                found.ways.push_back({d_.colon, state.numbers(), 0, false, false});
                return found;
            case VALUE: {
                u32 value = state.value;
                state.phase = AFTER_MEMBER;
                state.value = 0;
                found.ways.push_back({value, state.numbers(), 0, false, false});
                return found;
            }
            default: break;
        }
        if (state.phase != KEY && closable(state)) {
            ObjectState done;
            done.phase = OBJECT_DONE;
            found.ways.push_back({d_.closing, done.numbers(), 0, false, false});
        }
        bool after = state.phase == AFTER_MEMBER;
        ObjectState next = state;
        next.phase = COLON;
        std::vector<Way> offered;
        keys(next, after, offered);
        if (!after)
            found.ways.insert(found.ways.end(), offered.begin(), offered.end());
        else if (!offered.empty()) {
            state.phase = KEY;
            found.ways.push_back({d_.comma, state.numbers(), 0, false, false});
        }
        return found;
    }

  private:
    static void add(Bits& bits, const Bits& more) {
        for (u32 word = 0; word < bits.size(); word++) bits[word] |= more[word];
    }
    static void drop(Bits& bits, const Bits& less) {
        for (u32 word = 0; word < bits.size(); word++) bits[word] &= ~less[word];
    }
    static void drop_below(Bits& bits, u32 index) {
        for (u32 word = 0; word < bits.size(); word++) {
            if (word * 32 + 32 <= index)
                bits[word] = 0;
            else if (word * 32 < index)
                bits[word] &= ~((1u << (index - word * 32)) - 1);
        }
    }
    u32 most() const {
        return !d_.others.size() && d_.most != UNBOUNDED && d_.most >= d_.members.size() ? UNBOUNDED : d_.most;
    }
    static u32 capped(u32 count, u32 least, u32 most) { return most == UNBOUNDED ? std::min(count, least) : count; }

    ObjectState start() const {
        ObjectState state;
        state.taken.assign(words_, 0);
        state.pending.assign(words_, 0);
        state.counts.assign(d_.others.size(), 0);
        return state;
    }
    ObjectState parsed(const std::vector<u32>& numbers) const {
        ObjectState state;
        state.phase = numbers[0];
        if (state.phase == OBJECT_DONE) return state;
        state.used = numbers[1];
        state.next = numbers[2];
        state.total = numbers[3];
        state.value = numbers[4];
        auto at = numbers.begin() + 5;
        state.taken.assign(at, at + words_);
        state.pending.assign(at + words_, at + 2 * words_);
        state.counts.assign(at + 2 * words_, numbers.end());
        return state;
    }

    Bits ahead(const ObjectState& state) const {  // members that can still come, by their place alone
        Bits bits(words_, ~0u);
        if (d_.members.size() & 31) bits[words_ - 1] = (1u << (d_.members.size() & 31)) - 1;
        drop_below(bits, state.next);
        drop(bits, state.taken);
        return bits;
    }
    Bits missing(const ObjectState& state) const {
        Bits bits = d_.must, there = ahead(state);
        for (u32 word = 0; word < words_; word++) bits[word] = (bits[word] | state.pending[word]) & there[word];
        return bits;
    }
    bool possible(const Member& member) const { return possible_(member.key) && possible_(member.value); }

    void keys(const ObjectState& state, bool one_is_enough, std::vector<Way>& offered) {
        if (most() != UNBOUNDED && state.total >= most()) return;
        Bits lacking = missing(state);
        // then one more member does no harm, even one that leaves out others
        bool free = !d_.needy && most() == UNBOUNDED && state.total >= d_.least && feasible(state);
        for (u32 i = state.next; i < d_.members.size(); i++) {
            if (!has(state.taken, i)) {
                ObjectState taken = state;
                if (with_member(taken, i) && possible(d_.members[i]) && (free || feasible(taken)))
                    offered.push_back({d_.members[i].key, taken.numbers(), 0, false, false});
            }
            if ((d_.ordered && has(lacking, i)) || (one_is_enough && !offered.empty())) return;
        }
        for (u32 i = 0; i < d_.others.size(); i++) {
            const Others& others = d_.others[i];
            if (others.most != UNBOUNDED && state.counts[i] >= others.most) continue;
            ObjectState taken = state;
            taken.counts[i] = capped(taken.counts[i] + 1, others.least, others.most);
            taken.total = capped(taken.total + 1, d_.least, most());
            taken.value = others.value;
            if (d_.ordered) {
                taken.next = u32(d_.members.size());
                taken.taken.assign(words_, 0);
            }
            if (possible_(others.key) && possible_(others.value) && feasible(taken))
                offered.push_back(
                    {others.key, taken.numbers(), others.distinct ? state.used : 0, others.distinct, false});
        }
    }

    // Takes a member; false when what it needs can come no more.
    bool with_member(ObjectState& state, u32 index) const {
        state.value = d_.members[index].value;
        if (!d_.needy) {
            if (d_.ordered)
                state.next = index + 1;
            else
                put(state.taken, index);
            state.total = capped(state.total + 1, d_.least, most());
            return true;
        }
        const Bits& needs = d_.closed[index];
        if (d_.ordered) {
            Bits gone = needs;
            drop(gone, state.taken);
            for (u32 word = 0; word < words_; word++) {
                u32 below = word * 32 + 32 <= index ? ~0u : word * 32 >= index ? 0 : (1u << (index - word * 32)) - 1;
                if (gone[word] & below) return false;
            }
        }
        put(state.taken, index);
        add(state.pending, needs);
        drop(state.pending, state.taken);
        if (d_.ordered) {
            state.next = index + 1;
            drop_below(state.pending, index);
            Bits needed(words_);
            for (u32 later = index + 1; later < d_.members.size(); later++)
                if (!d_.members[later].needs.empty()) add(needed, d_.closed[later]);
            for (u32 word = 0; word < words_; word++) state.taken[word] &= needed[word];
        }
        state.total = capped(state.total + 1, d_.least, most());
        return true;
    }

    bool closable(const ObjectState& state) const {
        for (u32 i = 0; i < d_.others.size(); i++)
            if (state.counts[i] < d_.others[i].least) return false;
        return state.total >= d_.least && !any(missing(state));
    }

    // Whether some continuation completes the object.
    bool feasible(const ObjectState& state) {
        Bits lacking = missing(state);
        bool there = true;
        each(lacking, [&](u32 index) { there = there && possible(d_.members[index]); });
        if (!there) return false;
        u64 low = u64(state.total) + count(lacking), room = 0;  // room: for others beyond what they must be
        for (u32 i = 0; i < d_.others.size(); i++) {
            const Others& others = d_.others[i];
            u64 short_of = others.least > state.counts[i] ? others.least - state.counts[i] : 0;
            low += short_of;
            if (others.most != UNBOUNDED && state.counts[i] + short_of > others.most) return false;
            u64 free = others.most == UNBOUNDED ? d_.least : others.most - state.counts[i] - short_of;
            if (short_of || free) {
                if (possible_(others.key) && possible_(others.value))
                    room += free;
                else if (short_of)
                    return false;
            }
        }
        if (most() != UNBOUNDED && (low > most() || d_.least > most())) return false;
        if (low + room >= d_.least) return true;
        return optional_fill(state, lacking, d_.least - low - room, d_.least - low);
    }

    // Whether members that may come number `least` at least, and no more than fit, with what each needs.
    bool optional_fill(const ObjectState& state, const Bits& lacking, u64 least, u64 gap) {
        Bits takeable = ahead(state), kept(words_);
        each(takeable, [&](u32 index) {
            if (has(lacking, index) || possible(d_.members[index])) put(kept, index);
        });
        for (bool changed = true; changed;) {
            changed = false;
            Bits now = kept;
            each(now, [&](u32 index) {
                Bits needs = d_.closed[index];
                drop(needs, now);
                drop(needs, state.taken);
                if (any(needs)) {
                    kept[index >> 5] &= ~(1u << (index & 31));
                    changed = true;
                }
            });
        }
        drop(kept, lacking);
        if (count(kept) < least) return false;
        if (most() == UNBOUNDED || !d_.circular) return true;  // one at a time, what is needed first
        Bits there = state.taken;
        add(there, lacking);
        u64 fits = gap + most() - d_.least;
        std::set<Bits> seen{Bits(words_)};
        std::vector<Bits> queue{Bits(words_)};
        while (!queue.empty()) {
            Bits chosen = queue.back();
            queue.pop_back();
            u32 size = count(chosen);
            if (least <= size && size <= fits) return true;
            bool full = false;
            each(kept, [&](u32 index) {
                if (has(chosen, index)) return;
                Bits larger = d_.closed[index];
                put(larger, index);
                drop(larger, there);
                add(larger, chosen);
                if (seen.insert(larger).second) queue.push_back(larger);
                full |= seen.size() > 4096;
            });
            if (full) throw TooLarge{"too many properties that need each other, with a bound on their number"};
        }
        return false;
    }

    const Definition& d_;
    const Ask& possible_;
    u32 words_;
};

}  // namespace ramify
