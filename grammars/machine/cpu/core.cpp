// The core's door: C functions that Python calls through ctypes. No exception leaves them; each returns a code.
#include <mutex>
#include <new>

#include "apply.h"
#include "matcher.h"

using namespace ramify;

namespace {

constexpr size_t LEXICON_BYTES = 64u << 20;  // past which new grammars get fresh lexemes

struct Core {
    Core(const u8* data, const u64* offsets, u32 count, u32 size, std::vector<u32> ends, size_t row_bytes)
        : vocabulary(data, offsets, count, size, std::move(ends), row_bytes) {}
    std::mutex mutex;
    Budget budget;
    Vocabulary vocabulary;
    std::shared_ptr<Lexicon> lexicon;
    u64 lexicons = 0;
};

struct CoreHandle {
    std::shared_ptr<Core> core;
};
struct GrammarHandle {
    std::shared_ptr<Core> core;
    std::shared_ptr<Lexicon> lexicon;
    std::shared_ptr<Grammar> grammar;
};
struct MatcherHandle {
    std::shared_ptr<Core> core;
    Matcher matcher;
};

thread_local std::vector<u32> needed_symbols;
thread_local std::string needed_text;
thread_local const char* complaint = "";

template <class Do>
int guarded(Core& core, Do what) noexcept {
    try {
        std::lock_guard<std::mutex> lock(core.mutex);
        core.budget.begin();
        return what();
    } catch (const Needed& needed) {
        needed_symbols = needed.symbols;
        return NEED;
    } catch (const NeededValue& needed) {
        needed_symbols.clear();
        needed_text = needed.text;
        return NEED;
    } catch (const TooLarge& error) {
        complaint = error.what;
        return TOO_LARGE;
    } catch (const Broken& error) {
        complaint = error.what;
        return BROKEN;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    } catch (...) {
        complaint = "something unforeseen";
        return BROKEN;
    }
}

// Expressions arrive in postfix order, as numbers: see native_program.py.
enum Code_ : u32 { ADD_SET = 1, ADD_CONCAT, ADD_EITHER, ADD_BOTH, ADD_NOT, ADD_REPEAT, ADD_KNOWN, ADD_MADE, ADD_TEXT };

// Writes the number of each expression it makes to `made`, without sets of bytes, those made before, and known ones.
void build(Expressions& nodes, const u32* code, size_t count, u32* made) {
    std::vector<u32> stack;
    const u32* begin = made;
    const u32* end = code + count;
    auto take = [&](size_t size) {
        if (size > stack.size()) throw Broken{"an expression without its parts"};
        std::vector<u32> parts(stack.end() - long(size), stack.end());
        stack.resize(stack.size() - size);
        return parts;
    };
    while (code < end) {
        u32 operation = *code++;
        size_t wants = operation == ADD_SET ? 8 : operation == ADD_REPEAT ? 2 : operation == ADD_NOT ? 0 : 1;
        if (operation == ADD_TEXT && code < end) wants = 1 + (size_t(*code) + 3) / 4;
        if (size_t(end - code) < wants) throw Broken{"an expression that stops short"};
        switch (operation) {
            case ADD_SET: {
                ByteSet set;
                for (int word = 0; word < 4; word++) set.bits[word] = code[2 * word] | u64(code[2 * word + 1]) << 32;
                stack.push_back(nodes.byte_set(set));
                break;
            }
            case ADD_CONCAT: {
                std::vector<u32> parts = take(*code);
                u32 whole = EMPTY;
                for (size_t i = parts.size(); i-- > 0;) whole = nodes.concat(parts[i], whole);
                stack.push_back(whole);
                break;
            }
            case ADD_EITHER: stack.push_back(nodes.either(take(*code))); break;
            case ADD_BOTH: stack.push_back(nodes.both(take(*code))); break;
            case ADD_NOT: stack.push_back(nodes.complement(take(1)[0])); break;
            case ADD_REPEAT: stack.push_back(nodes.repeat(take(1)[0], code[0], code[1])); break;
            case ADD_KNOWN:
                if (*code >= nodes.count()) throw Broken{"an expression that nobody made"};
                stack.push_back(*code);
                break;
            case ADD_MADE:
                if (*code >= size_t(made - begin)) throw Broken{"an expression that is not made yet"};
                stack.push_back(begin[*code]);
                break;
            case ADD_TEXT: {
                const u8* text = reinterpret_cast<const u8*>(code + 1);
                u32 whole = EMPTY;
                for (size_t i = *code; i-- > 0;) {
                    ByteSet set;
                    set.bits[text[i] >> 6] = u64(1) << (text[i] & 63);
                    whole = nodes.concat(nodes.byte_set(set), whole);
                }
                stack.push_back(whole);
                break;
            }
            default: throw Broken{"an unknown operation"};
        }
        if (operation != ADD_SET && operation != ADD_KNOWN && operation != ADD_MADE) *made++ = stack.back();
        code += wants;
    }
}

}  // namespace

extern "C" {

// After NEED: the definitions to make, or, when there are none, the text whose value to tell. Returns their number.
u64 ramify_needed(u32* out, u64 room) {
    std::copy_n(needed_symbols.data(), std::min<size_t>(room, needed_symbols.size()), out);
    return needed_symbols.size();
}
const char* ramify_complaint() { return complaint; }
u64 ramify_needed_text(u8* out, u64 room) {
    std::copy_n(needed_text.data(), std::min<size_t>(room, needed_text.size()), out);
    return needed_text.size();
}

void* ramify_core_new(const u8* data, const u64* offsets, u32 count, u32 size, const u32* ends, u32 end_count,
                      u64 row_bytes) {
    try {
        std::vector<u32> sorted(ends, ends + end_count);
        std::sort(sorted.begin(), sorted.end());
        auto core = std::make_shared<Core>(data, offsets, count, size, std::move(sorted), row_bytes);
        core->lexicon = std::make_shared<Lexicon>(core->vocabulary.trie, core->vocabulary.rows, core->budget);
        return new CoreHandle{std::move(core)};
    } catch (...) {
        return nullptr;
    }
}
void ramify_core_free(CoreHandle* handle) { delete handle; }

// A grammar whose definitions are to come; `lexicon` says which lexemes it shares, so that expressions can be reused.
void* ramify_grammar_new(CoreHandle* handle, u32 start, u64* lexicon) {
    GrammarHandle* made = nullptr;
    Core& core = *handle->core;
    guarded(core, [&] {
        if (core.lexicon->lexemes.bytes() > LEXICON_BYTES) {
            core.lexicon = std::make_shared<Lexicon>(core.vocabulary.trie, core.vocabulary.rows, core.budget);
            core.lexicons++;
        }
        *lexicon = core.lexicons;
        auto grammar = std::make_shared<Grammar>(core.vocabulary, core.lexicon, core.budget, start);
        made = new GrammarHandle{handle->core, core.lexicon, std::move(grammar)};
        return DONE;
    });
    return made;
}
void ramify_grammar_free(GrammarHandle* handle) {
    std::shared_ptr<Core> core = handle->core;
    std::lock_guard<std::mutex> lock(core->mutex);
    delete handle;
}
u64 ramify_grammar_bytes(GrammarHandle* handle) {
    std::lock_guard<std::mutex> lock(handle->core->mutex);
    return handle->grammar->bytes();
}

int ramify_expressions(GrammarHandle* handle, const u32* code, u64 count, u32* made) {
    return guarded(*handle->core, [&] {
        build(handle->lexicon->lexemes.nodes, code, count, made);
        return DONE;
    });
}
// Definitions, each as its symbol, the size of what follows, and that; of a size of 0: that the symbol has a text,
// though it is not made yet.
int ramify_define(GrammarHandle* handle, const u32* data, u64 count) {
    return guarded(*handle->core, [&] {
        for (const u32* end = data + count; data < end;) {
            if (end - data < 2 || size_t(end - data) - 2 < data[1]) throw Broken{"definitions that stop short"};
            u32 symbol = data[0], size = data[1];
            data += 2;
            if (!size) {
                handle->grammar->possible(symbol);
                continue;
            }
            Definition definition = DefinitionReader(data, size).read();
            data += size;
            if (definition.form == Form::LEXEME && definition.expression >= handle->lexicon->lexemes.nodes.count())
                throw Broken{"a lexeme of an expression that nobody made"};
            handle->grammar->program.define(symbol, std::move(definition));
        }
        return DONE;
    });
}
// What `text` spells: a value with this name, which `spellings` are all the ways to spell.
int ramify_tell(GrammarHandle* handle, const char* text, u64 text_size, const char* name, u64 name_size, u32 spellings) {
    return guarded(*handle->core, [&] {
        if (spellings >= handle->lexicon->lexemes.nodes.count()) throw Broken{"an expression that nobody made"};
        handle->grammar->values.tell({text, text_size}, {name, name_size}, spellings);
        return DONE;
    });
}
// Makes the mask of an expression's first state now, so that later grammars find it.
int ramify_warm(GrammarHandle* handle, u32 expression) {
    return guarded(*handle->core, [&] {
        if (expression >= handle->lexicon->lexemes.nodes.count()) throw Broken{"an expression that nobody made"};
        handle->lexicon->masks.of(expression);
        return DONE;
    });
}

// DONE with a matcher; REFUSED when the language is empty.
int ramify_matcher_new(GrammarHandle* handle, MatcherHandle** made) {
    return guarded(*handle->core, [&] {
        if (handle->grammar->initial() == DEAD) return REFUSED;
        *made = new MatcherHandle{handle->core, Matcher(handle->grammar, handle->core->vocabulary)};
        return DONE;
    });
}
int ramify_matcher_copy(MatcherHandle* handle, MatcherHandle** made) {
    return guarded(*handle->core, [&] {
        *made = new MatcherHandle{handle->core, handle->matcher};
        return DONE;
    });
}
void ramify_matcher_free(MatcherHandle* handle) {
    std::shared_ptr<Core> core = handle->core;
    std::lock_guard<std::mutex> lock(core->mutex);
    delete handle;
}
Window* ramify_matcher_window(MatcherHandle* handle) { return &handle->matcher.window; }

int ramify_accept(MatcherHandle* handle, u32 token) {
    return guarded(*handle->core, [&] { return handle->matcher.accept(token) ? DONE : REFUSED; });
}
int ramify_accept_bytes(MatcherHandle* handle, const u8* data, u64 size) {
    return guarded(*handle->core, [&] { return handle->matcher.accept(data, size) ? DONE : REFUSED; });
}
int ramify_rollback(MatcherHandle* handle, u64 count) {
    return guarded(*handle->core, [&] { return handle->matcher.rollback(count) ? DONE : REFUSED; });
}
// The mask is then at the window's `row`.
int ramify_mask(MatcherHandle* handle) {
    return guarded(*handle->core, [&] { return handle->matcher.mask() ? DONE : REFUSED; });
}
int ramify_allowed(MatcherHandle* handle, u32 limit, u32* out, u32* count) {
    return guarded(*handle->core, [&] {
        if (handle->matcher.ended()) return REFUSED;
        *count = handle->matcher.allowed(limit, out);
        return DONE;
    });
}
int ramify_forced(MatcherHandle* handle, u8* out, u64 room, u64* count) {
    return guarded(*handle->core, [&] {
        *count = handle->matcher.forced(out, room);
        return DONE;
    });
}
int ramify_finished(MatcherHandle* handle) {
    return guarded(*handle->core, [&] { return handle->matcher.finished() ? DONE : REFUSED; });
}
// Masks of many matchers of one core into rows of `out`, from row `done` on; `done` counts those that are there.
int ramify_fill(MatcherHandle** handles, u64 count, u32* out, u64 stride, u64* done) {
    if (*done >= count) return DONE;
    return guarded(*handles[0]->core, [&] {
        for (; *done < count; ++*done) {
            MatcherHandle& handle = *handles[*done];
            const u32* row = handle.matcher.mask();
            if (!row) return REFUSED;
            std::memcpy(out + *done * stride, row, handle.core->vocabulary.rows.words() * 4);
        }
        return DONE;
    });
}

void ramify_apply(float* logits, u64 stride, u64 rows, const u32** masks, u64 vocabulary) {
    for (u64 row = 0; row < rows; row++)
        if (masks[row]) apply(logits + row * stride, masks[row], vocabulary);
}

}  // extern "C"
