/* The features of the camera: which values its registers take, and when; and what its commands do. */
#include <string.h>

#include "device.h"
#include "gentl.h"

static bool is_within(uint64_t bits, double least, double most) {
    double value = as_double(bits);
    return value >= least && value <= most; /* not a number is neither */
}

static double most_hz(const struct camera *camera) {
    double by_exposure = 1e6 / reg_double(camera, R_EXPOSURE_TIME);
    return by_exposure < 2000.0 ? by_exposure : 2000.0;
}

/* A side of the picture, or where it begins: in steps, and with the other one still on the sensor. */
static bool fits(const struct camera *camera, uint64_t value, uint64_t least, uint64_t sensor, enum reg other) {
    uint64_t step = camera->nodes.size_step ? camera->nodes.size_step : 1, rest = camera->reg[other];
    bool is_locked = camera->reg[R_TL_PARAMS_LOCKED];
    return !is_locked && value >= least && value <= sensor && rest <= sensor - value && value % step == 0;
}

bool nodes_busy(const struct camera *camera) { return now_ns() < atomic_load(&camera->nodes.busy_until_ns); }

bool nodes_allow(const struct camera *camera, enum reg index, uint64_t value) {
    bool is_locked = camera->reg[R_TL_PARAMS_LOCKED];
    if (nodes_busy(camera)) return false;
    switch (index) {
    case R_TEMPERATURE: case R_PAYLOAD_SIZE: case R_COUNTER_VALUE: case R_ENCODER_VALUE: case R_SENSOR_WIDTH:
    case R_SENSOR_HEIGHT: case R_TIMESTAMP_LATCH_VALUE: case R_MISSING: case R_UNAVAILABLE: case R_SIZE_STEP:
        return false;
    case R_WIDTH: return fits(camera, value, 64, camera->width, R_OFFSET_X);
    case R_HEIGHT: return fits(camera, value, 64, camera->height, R_OFFSET_Y);
    case R_OFFSET_X: return fits(camera, value, 0, camera->width, R_WIDTH);
    case R_OFFSET_Y: return fits(camera, value, 0, camera->height, R_HEIGHT);
    case R_PIXEL_FORMAT: return !is_locked && picture_size(value, 2, 2) > 0;
    case R_TRIGGER_MODE: case R_CHUNK_MODE_ACTIVE: return !is_locked && value <= 1;
    case R_TRIGGER_SOURCE: return !is_locked && value <= 1;
    case R_USER_SET_LOAD: case R_USER_SET_SAVE: return !is_locked;
    case R_USER_SET_SELECTOR: return value <= 1;
    case R_ACQUISITION_MODE: return value == 0;
    case R_FRAME_RATE: return is_within(value, 0.1, most_hz(camera));
    case R_EXPOSURE_TIME: return is_within(value, 10.0, 1000000.0);
    case R_GAIN: return is_within(value, 0.0, 24.0);
    case R_BLACK_LEVEL: return is_within(value, 0.0, 64.0);
    default: return true;
    }
}

uint64_t nodes_taken(const struct camera *camera, enum reg index, uint64_t value) {
    double step = index == R_BLACK_LEVEL ? 0.5 : 1e-3 * (double)camera->nodes.exposure_step_ns;
    if ((index != R_EXPOSURE_TIME && index != R_BLACK_LEVEL) || step == 0.0) return value;
    double taken = (double)(uint64_t)(as_double(value) / step + 1e-6) * step;
    return as_bits(index == R_EXPOSURE_TIME && taken < 10.0 ? 10.0 : taken);
}

/* All that a user sets, and nothing that says how the camera is. */
static bool is_setting(enum reg index) {
    switch (index) {
    case R_WIDTH: case R_HEIGHT: case R_OFFSET_X: case R_OFFSET_Y: case R_PIXEL_FORMAT: case R_FRAME_RATE:
    case R_TRIGGER_SELECTOR: case R_TRIGGER_MODE: case R_TRIGGER_SOURCE: case R_EXPOSURE_TIME: case R_GAIN:
    case R_BLACK_LEVEL: case R_CHUNK_MODE_ACTIVE: return true;
    default: return false;
    }
}

static void load_user_set(struct camera *camera) {
    bool is_saved = camera->reg[R_USER_SET_SELECTOR] == 1 && camera->nodes.user_set[R_WIDTH];
    struct camera fresh = {.width = camera->width, .height = camera->height, .channels = camera->channels};
    simcam_power_on(&fresh);
    for (int i = 0; i < R_COUNT; i++)
        if (is_setting((enum reg)i)) camera->reg[i] = is_saved ? camera->nodes.user_set[i] : fresh.reg[i];
}

void nodes_command(struct camera *camera, enum reg index) {
    switch (index) {
    case R_TIMESTAMP_LATCH: camera->reg[R_TIMESTAMP_LATCH_VALUE] = device_time(camera, now_ns()); break;
    case R_USER_SET_LOAD: load_user_set(camera); break;
    case R_USER_SET_SAVE:
        for (int i = 0; i < R_COUNT; i++) camera->nodes.user_set[i] = camera->reg[i];
        break;
    default: return;
    }
    if (index != R_TIMESTAMP_LATCH) camera->nodes.busy_until_ns = now_ns() + camera->nodes.command_ns;
}

/* ---- its clock, as it is told ---- */

uint64_t frame_time(const struct camera *camera, uint64_t at_ns) {
    if (camera->timestamp_mode == TIMESTAMP_ZERO) return 0;
    uint64_t time = device_time(camera, at_ns);
    return camera->timestamp_mode == TIMESTAMP_MIXED ? time / (1000000000u / TICKS_PER_SECOND) : time;
}

uint64_t clock_hz(const struct camera *camera) {
    switch (camera->timestamp_mode) {
    case TIMESTAMP_TICKS: case TIMESTAMP_MIXED: return TICKS_PER_SECOND;
    case TIMESTAMP_BARE: return 0;
    default: return 1000000000u;
    }
}
