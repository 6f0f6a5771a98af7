/* What TensorRT's Python bindings link against, without TensorRT: the nine functions that its three libraries export,
 * and a table of virtual functions for the objects that they return. No function does anything of its own: each hands
 * its number and its arguments to one Python function, fakes.py's, and returns what that returns.
 *
 * An object of TensorRT begins with the address of its virtual table, and its second word is the address of an
 * implementation with a virtual table of its own; most methods are inline and call the implementation's. Here the two
 * tables are one and the same, since which function stands where differs from version to version, and fakes.py finds
 * it out by calling.
 *
 * Only for x86-64 Linux, where the first six integers or addresses of any call lie in six registers, and the address
 * that a structure is returned at in the first of them. None of the functions called takes a floating-point number.
 */
#include <stdint.h>

typedef uintptr_t word;
typedef word (*Handler)(intptr_t number, const word *arguments);

static Handler handler;

void set_handler(Handler python) { handler = python; }

static word call(intptr_t number, word a, word b, word c, word d, word e, word f)
{
    const word arguments[] = {a, b, c, d, e, f};
    return handler(number, arguments);
}

/* The virtual functions, numbered from 0; no class of TensorRT has as many. */
#define TEN(DO, tens) \
    DO(tens##0) DO(tens##1) DO(tens##2) DO(tens##3) DO(tens##4) \
    DO(tens##5) DO(tens##6) DO(tens##7) DO(tens##8) DO(tens##9)
#define ALL(DO) \
    TEN(DO, ) TEN(DO, 1) TEN(DO, 2) TEN(DO, 3) TEN(DO, 4) TEN(DO, 5) TEN(DO, 6) TEN(DO, 7) TEN(DO, 8) TEN(DO, 9) \
    TEN(DO, 10) TEN(DO, 11) TEN(DO, 12) TEN(DO, 13) TEN(DO, 14) TEN(DO, 15) TEN(DO, 16) TEN(DO, 17) TEN(DO, 18)

#define DEFINE(number) \
    static word virtual_##number(word a, word b, word c, word d, word e, word f) \
    { \
        return call(number, a, b, c, d, e, f); \
    }
#define LIST(number) virtual_##number,

ALL(DEFINE)

typedef word (*Virtual)(word, word, word, word, word, word);

/* pybind11 asks an object for its dynamic type before it wraps it, so the two words before a virtual table count: the
 * offset to the whole object, and a std::type_info. A name that begins with a star is equal only to itself, so this
 * type is none that the bindings know, and they take the one that the function is declared to return. */
static const struct { const void *table; const char *name; } type = {0, "*stub"};

const struct { intptr_t offset; const void *type; Virtual functions[190]; } virtual_table = {0, &type, {ALL(LIST)}};

/* The exported functions that are called, numbered below 0. */
word createInferBuilder_INTERNAL(word logger, int version) { return call(-1, logger, (word)version, 0, 0, 0, 0); }
word createInferRuntime_INTERNAL(word logger, int version) { return call(-2, logger, (word)version, 0, 0, 0, 0); }
word createNvOnnxParser_INTERNAL(word network, word logger, int version)
{
    return call(-3, network, logger, (word)version, 0, 0, 0);
}

/* The bindings ask for these as they are imported, or not at all; no registry, no refitter. */
word createInferRefitter_INTERNAL(void) { return 0; }
word createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
word getBuilderPluginRegistry(void) { return 0; }
word getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
