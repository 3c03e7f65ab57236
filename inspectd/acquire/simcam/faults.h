/* What can go wrong with a camera on command, and in what a camera may differ from others. `Faults` in
 * `inspectd/acquire/simcam/faults.py` lays out the same structure in Python. */
#ifndef SIMCAM_FAULTS_H
#define SIMCAM_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define PLANNED 4096 /* so many triggers ahead can have effects of their own */
#define NAME_SIZE 32u

/* What becomes of one exposure; of any of these together. */
enum effect {
    EFFECT_MISSED,       /* its trigger is counted, and exposes nothing: the camera was busy */
    EFFECT_UNPLUGGED,    /* the cable goes in the moment after its trigger, for cable_ns */
    EFFECT_DROPPED,      /* lost on its way; its frame id is missing */
    EFFECT_INCOMPLETE,   /* only a part of it arrives */
    EFFECT_SHORT,        /* half of its lines, and yet not incomplete; below them an older picture is left */
    EFFECT_IDENTICAL,    /* shows the picture before its own */
    EFFECT_NO_CHUNKS,
    EFFECT_NO_ID,        /* its frame id is not available */
    EFFECT_WRONG_ID,     /* its frame id is wrong_id */
    EFFECT_TWICE,        /* delivered twice */
    EFFECT_SWAPPED,      /* delivered after the next frame */
    EFFECT_STRAY_BEFORE, /* a frame that nobody triggered comes before it, exposed before its trigger */
    EFFECT_STRAY_AFTER,  /* the same right behind it */
    EFFECTS
};
#define EFFECT_BITS 16u

enum call { CALL_OPEN, CALL_REGISTER, CALL_START, CALL_ACQUISITION_STOP, CALL_STOP, CALL_CLOSE, CALLS };
enum { IDS_COUNT = 0, IDS_ZERO = 1, IDS_ABSENT = 2 };
enum { LISTED_ONCE = 0, LISTED_TWICE = 1, LISTED_BY_TWO = 2 };
enum { SHORT_TELLS_BOTH = 0, SHORT_TELLS_LINES = 1, SHORT_TELLS_SIZE = 2 };

/* All 0: a good camera, as most are. */
struct faults {
    /* what happens once, or so often */
    _Atomic uint64_t next[EFFECTS]; /* this many of the next exposures have the effect */
    _Atomic uint64_t stray;         /* frames that nobody triggers, at once */
    _Atomic uint64_t silent;        /* it exposes nothing, and so many starts do not help */
    _Atomic uint64_t chatter;       /* bytes that the library says on stderr, at once */
    _Atomic uint64_t delays[CALLS], delay_ns[CALLS]; /* so many of the next calls take so long */
    _Atomic uint64_t starve_until_ns, cable_ns, wrong_id;
    /* how it is */
    _Atomic int64_t id_offset; /* the first frame's id is 1 plus this */
    _Atomic uint64_t id_bits, id_skips_zero, id_kind;
    _Atomic uint64_t counter_bits, counter_is_signed;
    _Atomic int64_t encoder_offset; /* added to each value of the encoder */
    /* a trigger during an exposure exposes nothing; buffers are filled oldest first */
    _Atomic uint64_t misses_while_exposing, oldest_first;
    _Atomic uint64_t padding, padding_is_told; /* bytes behind each line */
    _Atomic uint64_t short_tells, listed;
    char vendor[NAME_SIZE], model[NAME_SIZE]; /* empty: ours */
    _Atomic uint64_t plan[PLANNED]; /* [n % PLANNED]: trigger n, shifted by EFFECT_BITS, and its effects */
};

static inline struct timespec timespec_of(uint64_t ns) {
    return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

bool faults_take(_Atomic uint64_t *left); /* one of a count is used up; false if there is none */
uint32_t faults_of(struct faults *faults, uint64_t trigger); /* effects of this exposure, as bits; they are used up */
void faults_delay(struct faults *faults, enum call call);     /* take as long as this call shall */
void faults_chatter(struct faults *faults);                   /* say what shall be said */
uint64_t faults_id(const struct faults *faults, uint64_t number); /* id of the frame with this number since the start */
uint64_t faults_counter(const struct faults *faults, uint64_t counter); /* what its register shows */

#endif
