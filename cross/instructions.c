/* A plugin for qemu-user that counts the instructions an aarch64 program executes, by class and, with
 * the argument functions=on, by function.
 *
 * Built and used by cross/count. The counters are plain additions in the translated code, so that
 * counting costs little; two threads may lose a few to each other, and cross/count therefore asks
 * for one thread where exact numbers matter.
 *
 * The declarations are those of qemu's plugin interface, version 1 (qemu 4.2 to 8.2); Debian has no
 * package with the header.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t,
                                           void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *,
                                              uint64_t);
void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum class { MEMORY, VECTOR, INTEGER, BRANCH, CLASSES };
static const char *const NAMES[CLASSES] = {"loads and stores", "vector and float", "integer",
                                           "branches"};
static uint64_t counts[CLASSES];

/* Functions by name, each with its count, in chains by hash. Nothing is ever taken out, so that the
 * translated code may keep the address of a count. */
struct function {
    struct function *next;
    uint64_t count;
    char name[];
};
enum { CHAINS = 4096 };
static struct function *functions[CHAINS];
static int by_function;

static struct function *function_named(const char *name)
{
    uint32_t hash = 2166136261u;
    struct function *found;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (found = functions[hash % CHAINS]; found; found = found->next)
        if (!strcmp(found->name, name))
            return found;
    found = calloc(1, sizeof *found + strlen(name) + 1);
    if (!found)
        abort();
    strcpy(found->name, name);
    found->next = functions[hash % CHAINS];
    functions[hash % CHAINS] = found;
    return found;
}

/* The main groups of the A64 encoding: bits 28 to 25. */
static enum class class_of(uint32_t instruction)
{
    uint32_t group = instruction >> 25 & 15;
    if ((group & 5) == 4)
        return MEMORY;
    if ((group & 7) == 7 || group == 2)
        return VECTOR;
    return (group & 14) == 10 ? BRANCH : INTEGER;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    uint64_t found[CLASSES] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    if (by_function) {
        const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
        struct function *function = function_named(name && *name ? name : "?");
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &function->count,
                                                 length);
    }
    for (size_t i = 0; i < length; i++) {
        uint32_t instruction;
        memcpy(&instruction, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), 4);
        found[class_of(instruction)]++;
    }
    for (int c = 0; c < CLASSES; c++)
        if (found[c])
            qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &counts[c],
                                                     found[c]);
}

static void at_exit(qemu_plugin_id_t id, void *nothing)
{
    char line[80];
    uint64_t total = 0;
    (void)id;
    (void)nothing;
    for (int c = 0; c < CLASSES; c++) {
        total += counts[c];
        snprintf(line, sizeof line, "%18" PRIu64 "  %s\n", counts[c], NAMES[c]);
        qemu_plugin_outs(line);
    }
    snprintf(line, sizeof line, "%18" PRIu64 "  instructions\n", total);
    qemu_plugin_outs(line);
    for (int chain = 0; chain < CHAINS; chain++)
        for (struct function *f = functions[chain]; f; f = f->next) {
            snprintf(line, sizeof line, "%18" PRIu64 "  in ", f->count);
            qemu_plugin_outs(line);
            qemu_plugin_outs(f->name);
            qemu_plugin_outs("\n");
        }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const void *info, int argc,
                                                               char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "functions=on"))
            by_function = 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
