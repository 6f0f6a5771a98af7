/* The library that TensorRT's Python bindings link against, without TensorRT: the nine functions that its three
 * libraries export, and a table of virtual functions for the objects that they return. Each function gives its number
 * and its arguments to one Python function in fakes.py, and returns the result.
 *
 * An object of TensorRT begins with the address of its virtual table. Its second word is the address of an
 * implementation with a second virtual table; most methods are inline and call the implementation. Here both tables
 * are the same. The place of each function differs between versions, and fakes.py finds it by calling.
 *
 * It works only on x86-64 Linux, where the first six integers or addresses of a call are in six registers, and the
 * address of a returned structure is in the first of them. A shape that TensorRT 8 passes by value follows on the stack,
 * in five words; with other calls those words are whatever is there. No function here takes a floating-point number.
 */
#include <stdint.h>

typedef uintptr_t word;
typedef word (*Handler)(intptr_t number, const word *arguments);

static Handler handler;

void set_handler(Handler python) { handler = python; }

#define PARAMETERS word a, word b, word c, word d, word e, word f, word g, word h, word i, word j, word k

static word call(intptr_t number, PARAMETERS)
{
    const word arguments[] = {a, b, c, d, e, f, g, h, i, j, k};
    return handler(number, arguments);
}

/* The virtual functions, numbered from 0. No class of TensorRT has more. */
#define TEN(DO, tens) \
    DO(tens##0) DO(tens##1) DO(tens##2) DO(tens##3) DO(tens##4) \
    DO(tens##5) DO(tens##6) DO(tens##7) DO(tens##8) DO(tens##9)
#define ALL(DO) \
    TEN(DO, ) TEN(DO, 1) TEN(DO, 2) TEN(DO, 3) TEN(DO, 4) TEN(DO, 5) TEN(DO, 6) TEN(DO, 7) TEN(DO, 8) TEN(DO, 9) \
    TEN(DO, 10) TEN(DO, 11) TEN(DO, 12) TEN(DO, 13) TEN(DO, 14) TEN(DO, 15) TEN(DO, 16) TEN(DO, 17) TEN(DO, 18)

#define DEFINE(number) \
    static word virtual_##number(PARAMETERS) \
    { \
        return call(number, a, b, c, d, e, f, g, h, i, j, k); \
    }
#define LIST(number) virtual_##number,

ALL(DEFINE)

typedef word (*Virtual)(PARAMETERS);

/* pybind11 reads the dynamic type of an object before it wraps it, from the two words before the virtual table: the
 * offset to the whole object, and a std::type_info. A name that begins with a star is equal only to itself. So the
 * bindings do not know this type, and they use the declared return type of the function. */
static const struct { const void *table; const char *name; } type = {0, "*stub"};

const struct { intptr_t offset; const void *type; Virtual functions[190]; } virtual_table = {0, &type, {ALL(LIST)}};

/* The exported functions that are called, with numbers below 0. */
#define NO_MORE 0, 0, 0, 0, 0, 0, 0, 0

word createInferBuilder_INTERNAL(word logger, int version) { return call(-1, logger, (word)version, 0, NO_MORE); }
word createInferRuntime_INTERNAL(word logger, int version) { return call(-2, logger, (word)version, 0, NO_MORE); }
word createNvOnnxParser_INTERNAL(word network, word logger, int version)
{
    return call(-3, network, logger, (word)version, NO_MORE);
}

/* The bindings call these only during the import, or never: no registry, no refitter. */
word createInferRefitter_INTERNAL(void) { return 0; }
word createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
word getBuilderPluginRegistry(void) { return 0; }
word getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }

/* TensorRT 8's bindings also link against parsers of older formats, under the names that C++ gives these functions. */
word _ZN11nvuffparser15createUffParserEv(void) { return 0; }
word _ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi(void) { return 0; }
word _ZN14nvcaffeparser117createCaffeParserEv(void) { return 0; }
word _ZN14nvcaffeparser123shutdownProtobufLibraryEv(void) { return 0; }
