// Sets of tokens as spans: tokens are numbered in the order of the trie, so that a subtree is one span.
#pragma once

#include <algorithm>
#include <vector>

#include "limits.h"

namespace ramify {

struct Span {  // the tokens from one number up to another
    u32 from, to;
};

// The tokens that are not in a set, in order.
class Outside {
  public:
    std::vector<Span> spans;

    void add(u32 from, u32 to) {
        if (!spans.empty() && spans.back().to == from)
            spans.back().to = to;
        else
            spans.push_back({from, to});
    }
    u32 count() const {
        u32 found = 0;
        for (Span span : spans) found += span.to - span.from;
        return found;
    }
    // Whether none of the tokens from one to another is in a span.
    bool none(u32 from, u32 to) const {
        auto at = std::lower_bound(spans.begin(), spans.end(), from, [](Span span, u32 value) { return span.to <= value; });
        return at == spans.end() || at->from >= to;
    }
    // Calls `with` for each span between those here, of `all`.
    template <class With>
    void between(Span all, With with) const {
        for (Span span : spans) {
            if (all.from < span.from) with(Span{all.from, span.from});
            all.from = span.to;
        }
        if (all.from < all.to) with(all);
    }
};

}  // namespace ramify
