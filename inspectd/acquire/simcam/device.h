/* The simulated camera behind the producer: one mapped file per device, NAME.camera, and beside it NAME.raw with
 * its pictures. The file outlives every process that has the camera open, so the trigger counter, the clock and the
 * faults go on as in a real camera. `inspectd/acquire/simcam/world.py` lays out the same structure in Python. */
#ifndef SIMCAM_DEVICE_H
#define SIMCAM_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "faults.h"

#define EXPORT __attribute__((visibility("default")))
#define SIMCAM_MAGIC "SIMCAM1"
#define PULSES 4096 /* so many latest triggers keep their exact time */

/* Registers of the remote device: one 8-byte word each, at REGISTERS + 8 * index; camera.xml names them. */
#define REGISTERS 0x1000u
#define SERIAL_ADDRESS 0x2000u
#define USER_ID_ADDRESS 0x2020u
#define TEXT_SIZE 32u
enum reg {
    R_WIDTH, R_HEIGHT, R_PIXEL_FORMAT, R_ACQUISITION_MODE, R_FRAME_RATE, R_TRIGGER_MODE, R_TRIGGER_SOURCE,
    R_TRIGGER_SOFTWARE, R_EXPOSURE_TIME, R_GAIN, R_TEMPERATURE, R_TIMESTAMP_LATCH, R_TIMESTAMP_LATCH_VALUE,
    R_ACQUISITION_START, R_ACQUISITION_STOP, R_TL_PARAMS_LOCKED, R_PAYLOAD_SIZE, R_CHUNK_MODE_ACTIVE,
    R_COUNTER_VALUE, R_ENCODER_VALUE, R_SENSOR_WIDTH, R_SENSOR_HEIGHT, R_OFFSET_X, R_OFFSET_Y, R_BLACK_LEVEL,
    R_TRIGGER_SELECTOR, R_USER_SET_SELECTOR, R_USER_SET_LOAD, R_USER_SET_SAVE, R_MISSING, R_UNAVAILABLE, R_SIZE_STEP,
    R_COUNT
};
enum { TRIGGER_SOURCE_SOFTWARE = 0, TRIGGER_SOURCE_LINE0 = 1 };
/* Of the frames' times and of the clock that is latched. ZERO: every frame says 0. BARE: ticks, and nothing says how
 * many a second. MIXED: frames in ticks, the latch in ns. */
enum { TIMESTAMP_NS, TIMESTAMP_TICKS, TIMESTAMP_ABSENT, TIMESTAMP_ZERO, TIMESTAMP_BARE, TIMESTAMP_MIXED };
#define TICKS_PER_SECOND 125000000u
#define ENCODER_STEP 100u /* encoder counts from one trigger to the next */

/* How a camera's features may differ from a plain camera's. `Nodes` in nodes.py lays out the same. */
struct nodes {
    _Atomic uint64_t missing, unavailable; /* bits: features that are not implemented, or not available now */
    _Atomic uint64_t exposure_step_ns;     /* ExposureTime is rounded down to steps of this; 0 = to none */
    _Atomic uint64_t size_step;            /* Width, Height and their offsets go in steps of this; 0 = of 1 */
    _Atomic uint64_t command_ns;           /* user sets are loaded and saved in this time, and nothing else is written */
    _Atomic uint64_t busy_until_ns;        /* until when that goes on */
    _Atomic uint64_t user_set[R_COUNT];    /* UserSet1: the registers as they were saved; its Width 0 = never */
};

/* The mapped file. Natural alignment everywhere, so that ctypes lays it out alike. */
struct camera {
    char magic[8];
    uint32_t size;        /* of this structure */
    uint32_t image_count, width, height, channels; /* of the pictures in NAME.raw */
    uint32_t timestamp_mode;
    char serial[TEXT_SIZE], user_id[TEXT_SIZE];
    char fingerprint[64]; /* Python's: of the pictures this was made from */
    /* state */
    _Atomic uint32_t wake; /* a futex: counts everything the camera's thread should look at */
    uint32_t reserved;
    _Atomic uint64_t line0;   /* pulses on the hardware line, ever */
    _Atomic uint64_t counter; /* triggers taken, ever: Line0 pulses, software triggers or free-run exposures */
    _Atomic int64_t clock_offset_ns; /* device time is CLOCK_MONOTONIC plus this */
    _Atomic uint64_t plug;           /* goes up at each unplugging: what was open then is dead for ever */
    _Atomic uint64_t back_ns;        /* unplugged until then, CLOCK_MONOTONIC */
    _Atomic uint64_t exposures;      /* since it was made */
    struct nodes nodes;
    _Atomic uint64_t reg[R_COUNT]; /* as written by the host; floats as their bits */
    _Atomic uint64_t pulse_ns[PULSES]; /* [n % PULSES]: when the counter became n + 1; 0 once that is exposed */
    struct faults faults;
};

/* An open camera: the mapping of both files. */
struct device {
    struct camera *camera;
    const uint8_t *flags;  /* [image_count]: 1 where the picture could not be read: sent as incomplete */
    const uint8_t *images; /* image_count pictures [height][width][channels] */
    size_t raw_size;
    int fd;
    uint64_t plug; /* as it was when this was opened */
};

uint64_t now_ns(void);
bool device_map(struct device *device, const char *path); /* false: not a camera file */
void device_unmap(struct device *device);
bool device_plugged(const struct camera *camera);
bool device_alive(const struct device *device); /* plugged, and never unplugged since it was opened */
EXPORT void simcam_power_on(struct camera *camera); /* registers to their defaults */

/* Registers. Both give a GenTL error code. */
int device_read(struct device *device, uint64_t address, void *data, size_t size);
int device_write(struct device *device, uint64_t address, const void *data, size_t size);

EXPORT uint64_t simcam_pulse(struct camera *camera, uint64_t count); /* `count` pulses on Line0; returns the counter */
EXPORT void simcam_wake(struct camera *camera);
uint64_t device_period_ns(const struct camera *camera); /* from one exposure to the next in free run */
uint64_t device_time(const struct camera *camera, uint64_t at_ns); /* what its clock shows then, in its unit */
uint64_t device_encoder(const struct camera *camera, uint64_t counter); /* its value at this count of triggers */
void device_trigger(struct camera *camera, uint64_t at_ns); /* the counter takes one trigger */
void device_unplug(struct camera *camera, uint64_t for_ns); /* pull the cable */
void device_sleep(struct camera *camera, uint32_t wake, uint64_t until_ns); /* until then, or `wake` changes */

size_t picture_size(uint64_t pixel_format, uint64_t width, uint64_t height);
/* From one line to the next, with the padding; 0 where lines don't end at whole bytes and so none is possible. */
size_t line_pitch(const struct camera *camera, uint64_t pixel_format, uint64_t width);
/* A picture as it is sent, with the padding of its lines. */
size_t sent_size(const struct camera *camera, uint64_t pixel_format, uint64_t width, uint64_t height);
/* Picture `index` in the given format, top left width x height of it, into `out`: sent_size bytes. */
void device_render(const struct device *device, uint64_t index, uint64_t pixel_format, uint64_t width,
                   uint64_t height, uint8_t *out);
/* nodes.c */
bool nodes_allow(const struct camera *camera, enum reg index, uint64_t value); /* whether a register takes a value now */
uint64_t nodes_taken(const struct camera *camera, enum reg index, uint64_t value); /* what it makes of it */
void nodes_command(struct camera *camera, enum reg index); /* what a command does, once it is written */
bool nodes_busy(const struct camera *camera);
uint64_t frame_time(const struct camera *camera, uint64_t at_ns); /* what a frame exposed then says */
uint64_t clock_hz(const struct camera *camera); /* as the producer tells it; 0 = it does not */
/* Registers hold floats as their bits. */
static inline double as_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t as_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

double reg_double(const struct camera *camera, enum reg index);

#endif
