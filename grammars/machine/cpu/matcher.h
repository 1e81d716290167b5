// Where one text stands in a grammar, and how it came there.
#pragma once

#include "grammar.h"

namespace ramify {

constexpr u32 ENDED = NONE - 7;  // behind an end token

// What Python reads without a call.
struct Window {
    u64 row;        // the address of the mask when it is known already and allows any token, else 0
    u32 accepting, ended;
    u64 steps;      // accepts that can be taken back
};

class Matcher {
  public:
    Matcher(std::shared_ptr<Grammar> grammar, Vocabulary& vocabulary)
        : grammar_(std::move(grammar)), vocabulary_(vocabulary), trail_{grammar_->initial()} {
        arrived();
    }
    Matcher(const Matcher& other) : grammar_(other.grammar_), vocabulary_(other.vocabulary_), trail_(other.trail_) {
        arrived();
    }
    ~Matcher() { let_go(); }

    Window window{};

    bool dead() const { return here() == DEAD; }
    Grammar& grammar() { return *grammar_; }

    bool accept(u32 token) {
        if (here() == ENDED || token >= vocabulary_.size) return false;
        if (grammar_->is_end(token)) {
            if (!window.accepting) return false;
            trail_.push_back(ENDED);
            arrived();
            return true;
        }
        if (token >= vocabulary_.trie.count() || !vocabulary_.trie.length(token)) return false;
        return accept(vocabulary_.trie.bytes(token), vocabulary_.trie.length(token));
    }
    bool accept(const u8* data, size_t size) {
        if (here() == ENDED) return false;
        u32 next = grammar_->advanced(here(), data, size);
        if (next == DEAD) return false;
        trail_.push_back(next);
        arrived();
        return true;
    }
    bool rollback(size_t count) {
        if (count >= trail_.size()) return false;
        trail_.resize(trail_.size() - count);
        arrived();
        return true;
    }

    // The mask here; good until this matcher moves.
    const u32* mask() {
        if (here() == ENDED) return nullptr;
        if (!holding_) hold(grammar_->row(here()));
        return vocabulary_.rows.get(held_);
    }
    u32 allowed(u32 limit, u32* out) {
        mask();
        return grammar_->allowed(here(), limit, out);
    }
    bool ended() const { return here() == ENDED; }
    size_t forced(u8* out, size_t room) { return ended() ? 0 : grammar_->forced(here(), out, room); }
    bool finished() { return ended() || grammar_->ends(here()); }

  private:
    u32 here() const { return trail_.back(); }
    void arrived() {
        let_go();
        window.ended = ended();
        window.accepting = ended() || grammar_->set(here()).accepting;
        window.steps = trail_.size() - 1;
        window.row = 0;
        if (!ended() && grammar_->known_row(here())) hold(grammar_->set(here()).row);
    }
    void hold(RowHandle handle) {
        held_ = handle;
        holding_ = true;
        vocabulary_.rows.hold(handle);
        window.row = grammar_->set(here()).stuck ? 0 : u64(vocabulary_.rows.get(handle));
    }
    void let_go() {
        if (holding_) vocabulary_.rows.release(held_);
        holding_ = false;
    }

    std::shared_ptr<Grammar> grammar_;
    Vocabulary& vocabulary_;
    std::vector<u32> trail_;
    RowHandle held_;
    bool holding_ = false;
};

}  // namespace ramify
