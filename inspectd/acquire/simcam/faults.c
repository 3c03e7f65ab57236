#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool faults_take(_Atomic uint64_t *left) {
    uint64_t now = atomic_load(left);
    while (now && !atomic_compare_exchange_weak(left, &now, now - 1)) {}
    return now > 0;
}

uint32_t faults_of(struct faults *faults, uint64_t trigger) {
    uint32_t effects = 0;
    for (int i = 0; i < EFFECTS; i++)
        if (faults_take(&faults->next[i])) effects |= 1u << i;
    _Atomic uint64_t *planned = &faults->plan[trigger % PLANNED];
    uint64_t word = atomic_load(planned);
    if (!word || word >> EFFECT_BITS != trigger) return effects; /* none, or another trigger's */
    atomic_store(planned, 0);
    return effects | (uint32_t)(word & ((1u << EFFECT_BITS) - 1));
}

void faults_delay(struct faults *faults, enum call call) {
    if (!faults_take(&faults->delays[call])) return;
    uint64_t delay_ns = atomic_load(&faults->delay_ns[call]);
    struct timespec pause = timespec_of(delay_ns);
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {}
}

/* As libraries do: plain writes, which block where nobody reads. */
void faults_chatter(struct faults *faults) {
    static const char line[] = "simcam: WARNING: a packet was lost and is requested again\n";
    uint64_t left = atomic_exchange(&faults->chatter, 0);
    while (left) {
        ssize_t said = write(STDERR_FILENO, line, left < sizeof line - 1 ? left : sizeof line - 1);
        if (said < 0 && errno != EINTR) return; /* nobody is there any more */
        left -= said > 0 ? (uint64_t)said : 0;
    }
}

uint64_t faults_id(const struct faults *faults, uint64_t number) {
    if (faults->id_kind != IDS_COUNT) return 0;
    uint64_t id = number + (uint64_t)faults->id_offset, bits = faults->id_bits;
    if (!bits || bits >= 64) return id;
    uint64_t most = ((uint64_t)1 << bits) - 1;
    return faults->id_skips_zero ? (id - 1) % most + 1 : id & most;
}

uint64_t faults_counter(const struct faults *faults, uint64_t counter) {
    uint64_t bits = faults->counter_bits;
    if (!bits || bits >= 64) return counter;
    uint64_t value = counter & (((uint64_t)1 << bits) - 1);
    bool is_negative = faults->counter_is_signed && value >> (bits - 1);
    return is_negative ? value | UINT64_MAX << bits : value;
}
