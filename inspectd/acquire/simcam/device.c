#define _GNU_SOURCE
#include "device.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gentl.h"

#define FLAG_PAGE 4096u /* the flags of NAME.raw fill whole pages, so that the pictures are aligned */

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double reg_double(const struct camera *camera, enum reg index) { return as_double(camera->reg[index]); }

static bool map_pictures(struct device *device, const char *path) {
    char raw[PATH_MAX];
    size_t stem = strlen(path) - strlen(".camera");
    if (stem + sizeof ".raw" > sizeof raw) return false;
    memcpy(raw, path, stem);
    memcpy(raw + stem, ".raw", sizeof ".raw");
    int fd = open(raw, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const struct camera *camera = device->camera;
    size_t flags = (camera->image_count + FLAG_PAGE - 1) / FLAG_PAGE * FLAG_PAGE;
    size_t wanted = flags + (size_t)camera->image_count * camera->width * camera->height * camera->channels;
    struct stat status;
    void *map = MAP_FAILED;
    if (fstat(fd, &status) == 0 && (size_t)status.st_size == wanted)
        map = mmap(NULL, wanted, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return false;
    device->flags = map;
    device->images = (const uint8_t *)map + flags;
    device->raw_size = wanted;
    return true;
}

bool device_map(struct device *device, const char *path) {
    memset(device, 0, sizeof *device);
    device->fd = open(path, O_RDWR | O_CLOEXEC);
    if (device->fd < 0) return false;
    struct stat status;
    void *map = MAP_FAILED;
    if (fstat(device->fd, &status) == 0 && (size_t)status.st_size == sizeof(struct camera))
        map = mmap(NULL, sizeof(struct camera), PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, 0);
    if (map != MAP_FAILED) {
        device->camera = map;
        const struct camera *camera = map;
        bool ours = memcmp(camera->magic, SIMCAM_MAGIC, sizeof camera->magic) == 0;
        bool sound = ours && camera->size == sizeof *camera && camera->image_count > 0 &&
                     (camera->channels == 1 || camera->channels == 3);
        if (sound && map_pictures(device, path)) {
            device->plug = atomic_load(&camera->plug);
            return true;
        }
    }
    device_unmap(device);
    return false;
}

void device_unmap(struct device *device) {
    if (device->flags) munmap((void *)(uintptr_t)device->flags, device->raw_size);
    if (device->camera) munmap(device->camera, sizeof *device->camera);
    if (device->fd >= 0) close(device->fd);
    memset(device, 0, sizeof *device);
    device->fd = -1;
}

bool device_plugged(const struct camera *camera) { return now_ns() >= atomic_load(&camera->back_ns); }

bool device_alive(const struct device *device) {
    return device_plugged(device->camera) && atomic_load(&device->camera->plug) == device->plug;
}

void simcam_power_on(struct camera *camera) {
    for (int i = 0; i < R_COUNT; i++) camera->reg[i] = 0;
    camera->reg[R_WIDTH] = camera->width;
    camera->reg[R_HEIGHT] = camera->height;
    camera->reg[R_PIXEL_FORMAT] = camera->channels == 3 ? RGB8 : Mono8;
    camera->reg[R_FRAME_RATE] = as_bits(10.0);
    camera->reg[R_EXPOSURE_TIME] = as_bits(100.0);
    camera->reg[R_GAIN] = as_bits(0.0);
}

/* ---- triggers ---- */

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *until) {
    return syscall(SYS_futex, word, operation, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void simcam_wake(struct camera *camera) {
    atomic_fetch_add(&camera->wake, 1);
    futex(&camera->wake, FUTEX_WAKE, INT_MAX, NULL);
}

void device_sleep(struct camera *camera, uint32_t wake, uint64_t until_ns) {
    struct timespec until = timespec_of(until_ns);
    futex(&camera->wake, FUTEX_WAIT_BITSET, wake, &until); /* an absolute time on CLOCK_MONOTONIC */
}

void device_trigger(struct camera *camera, uint64_t at_ns) {
    /* The time is in place before the count tells of it; two triggers at once may swap theirs, by microseconds. */
    uint64_t counter = atomic_load(&camera->counter);
    do atomic_store(&camera->pulse_ns[counter % PULSES], at_ns);
    while (!atomic_compare_exchange_weak(&camera->counter, &counter, counter + 1));
}

void device_unplug(struct camera *camera, uint64_t for_ns) {
    atomic_store(&camera->back_ns, now_ns() + for_ns);
    atomic_fetch_add(&camera->plug, 1);
    simcam_wake(camera);
}

uint64_t simcam_pulse(struct camera *camera, uint64_t count) {
    bool listens = camera->reg[R_TRIGGER_MODE] && camera->reg[R_TRIGGER_SOURCE] == TRIGGER_SOURCE_LINE0;
    atomic_fetch_add(&camera->line0, count);
    for (uint64_t i = 0; listens && i < count; i++) device_trigger(camera, now_ns());
    simcam_wake(camera);
    return atomic_load(&camera->counter);
}

uint64_t device_period_ns(const struct camera *camera) {
    double by_rate = 1e9 / reg_double(camera, R_FRAME_RATE), exposure = 1e3 * reg_double(camera, R_EXPOSURE_TIME);
    return (uint64_t)(by_rate > exposure ? by_rate : exposure);
}

/* ---- registers ---- */

uint64_t device_time(const struct camera *camera, uint64_t at_ns) {
    int64_t time = (int64_t)at_ns + atomic_load(&camera->clock_offset_ns); /* below 0 if it was set back so far */
    bool is_ns = camera->timestamp_mode != TIMESTAMP_TICKS && camera->timestamp_mode != TIMESTAMP_BARE;
    return (uint64_t)(is_ns ? time : time / (1000000000 / (int64_t)TICKS_PER_SECOND));
}

uint64_t device_encoder(const struct camera *camera, uint64_t counter) {
    return counter * ENCODER_STEP + (uint64_t)atomic_load(&camera->faults.encoder_offset);
}

static uint64_t register_value(const struct camera *camera, enum reg index) {
    switch (index) {
    case R_TEMPERATURE: return as_bits(41.5 + (double)(atomic_load(&camera->exposures) % 8) / 16);
    case R_PAYLOAD_SIZE:
        return sent_size(camera, camera->reg[R_PIXEL_FORMAT], camera->reg[R_WIDTH], camera->reg[R_HEIGHT]);
    case R_COUNTER_VALUE: return faults_counter(&camera->faults, atomic_load(&camera->counter));
    case R_ENCODER_VALUE: return device_encoder(camera, atomic_load(&camera->counter));
    case R_SENSOR_WIDTH: return camera->width;
    case R_SENSOR_HEIGHT: return camera->height;
    case R_MISSING: return camera->nodes.missing;
    case R_UNAVAILABLE: return camera->nodes.unavailable;
    case R_SIZE_STEP: return camera->nodes.size_step ? camera->nodes.size_step : 1;
    case R_USER_SET_LOAD: case R_USER_SET_SAVE: return nodes_busy(camera);
    default: return camera->reg[index];
    }
}

static int access_begins(struct device *device) {
    faults_delay(&device->camera->faults, CALL_REGISTER);
    return device_alive(device) ? GC_ERR_SUCCESS : GC_ERR_IO;
}

static char *text_at(struct camera *camera, uint64_t address, size_t size) {
    if (size > TEXT_SIZE) return NULL;
    if (address == SERIAL_ADDRESS) return camera->serial;
    return address == USER_ID_ADDRESS ? camera->user_id : NULL;
}

static bool is_register(uint64_t address, size_t size) {
    return size == 8 && address >= REGISTERS && address % 8 == 0 && (address - REGISTERS) / 8 < R_COUNT;
}

int device_read(struct device *device, uint64_t address, void *data, size_t size) {
    int error = access_begins(device);
    if (error) return error;
    const char *text = text_at(device->camera, address, size);
    if (text) {
        memcpy(data, text, size);
        return GC_ERR_SUCCESS;
    }
    if (!is_register(address, size)) return GC_ERR_INVALID_ADDRESS;
    uint64_t value = register_value(device->camera, (enum reg)((address - REGISTERS) / 8));
    memcpy(data, &value, sizeof value);
    return GC_ERR_SUCCESS;
}

int device_write(struct device *device, uint64_t address, const void *data, size_t size) {
    int error = access_begins(device);
    if (error) return error;
    struct camera *camera = device->camera;
    if (address == USER_ID_ADDRESS && size <= TEXT_SIZE) {
        memset(camera->user_id, 0, TEXT_SIZE);
        memcpy(camera->user_id, data, size);
        camera->user_id[TEXT_SIZE - 1] = 0;
        return GC_ERR_SUCCESS;
    }
    if (!is_register(address, size)) return GC_ERR_INVALID_ADDRESS;
    enum reg index = (enum reg)((address - REGISTERS) / 8);
    uint64_t value;
    memcpy(&value, data, sizeof value);
    if (!nodes_allow(camera, index, value)) return GC_ERR_ACCESS_DENIED;
    camera->reg[index] = nodes_taken(camera, index, value);
    nodes_command(camera, index);
    return GC_ERR_SUCCESS;
}

/* ---- pictures ---- */

size_t picture_size(uint64_t pixel_format, uint64_t width, uint64_t height) {
    switch (pixel_format) {
    case Mono8: case BayerRG8: return width * height;
    case Mono12: return 2 * width * height;
    case Mono12p: return (12 * width * height + 7) / 8;
    case RGB8: return 3 * width * height;
    default: return 0;
    }
}

size_t line_pitch(const struct camera *camera, uint64_t pixel_format, uint64_t width) {
    size_t two_lines = picture_size(pixel_format, width, 2);
    return two_lines % 2 ? 0 : two_lines / 2 + camera->faults.padding;
}

size_t sent_size(const struct camera *camera, uint64_t pixel_format, uint64_t width, uint64_t height) {
    size_t pitch = camera->faults.padding ? line_pitch(camera, pixel_format, width) : 0;
    return pitch ? pitch * height : picture_size(pixel_format, width, height);
}

static uint8_t grey_of(const uint8_t *pixel, uint32_t channels) {
    return channels == 1 ? pixel[0] : (uint8_t)((77u * pixel[0] + 150u * pixel[1] + 29u * pixel[2]) >> 8);
}

/* 8 bits as 12: the top bits come again at the bottom, so that white stays white. */
static uint16_t deep(uint8_t grey) { return (uint16_t)(grey << 4 | grey >> 4); }

static void put_pixel(uint64_t pixel_format, uint64_t i, uint64_t x, uint64_t y, const uint8_t *pixel, uint32_t channels,
                      uint8_t *out) {
    switch (pixel_format) {
    case Mono8: out[i] = grey_of(pixel, channels); break;
    case BayerRG8: out[i] = pixel[channels == 1 ? 0 : (x & 1) + (y & 1)]; break;
    case RGB8:
        for (uint32_t c = 0; c < 3; c++) out[3 * i + c] = pixel[channels == 1 ? 0 : c];
        break;
    case Mono12: {
        uint16_t value = deep(grey_of(pixel, channels));
        out[2 * i] = (uint8_t)value;
        out[2 * i + 1] = (uint8_t)(value >> 8);
        break;
    }
    default: { /* Mono12p: two pixels in three bytes, low bits first, on over the end of a line */
        uint16_t value = deep(grey_of(pixel, channels));
        uint8_t *at = out + i / 2 * 3 + i % 2;
        if (i % 2 == 0) {
            at[0] = (uint8_t)value;
            at[1] = (uint8_t)(value >> 8);
        } else {
            at[0] = (uint8_t)(at[0] | value << 4);
            at[1] = (uint8_t)(value >> 4);
        }
    }
    }
}

static void render(const struct device *device, uint64_t index, uint64_t pixel_format, uint64_t width, uint64_t height,
                   uint8_t *out) {
    const struct camera *camera = device->camera;
    size_t line = (size_t)camera->width * camera->channels;
    const uint8_t *picture = device->images + index % camera->image_count * line * camera->height +
                             camera->reg[R_OFFSET_Y] * line + camera->reg[R_OFFSET_X] * camera->channels;
    bool plain = (pixel_format == Mono8 && camera->channels == 1) || (pixel_format == RGB8 && camera->channels == 3);
    if (plain && width == camera->width) {
        memcpy(out, picture, line * height);
        return;
    }
    for (uint64_t y = 0; y < height; y++) {
        const uint8_t *row = picture + y * line;
        if (plain) {
            memcpy(out + y * width * camera->channels, row, width * camera->channels);
            continue;
        }
        for (uint64_t x = 0; x < width; x++)
            put_pixel(pixel_format, y * width + x, x, y, row + x * camera->channels, camera->channels, out);
    }
}

void device_render(const struct device *device, uint64_t index, uint64_t pixel_format, uint64_t width,
                   uint64_t height, uint8_t *out) {
    render(device, index, pixel_format, width, height, out);
    size_t padding = device->camera->faults.padding, pitch = line_pitch(device->camera, pixel_format, width);
    if (!padding || !pitch) return;
    for (uint64_t y = height; y-- > 0;) { /* from below: none is written over before it is moved */
        memmove(out + y * pitch, out + y * (pitch - padding), pitch - padding);
        memset(out + y * pitch + pitch - padding, 0xA5, padding);
    }
}
