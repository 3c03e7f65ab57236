/* simcam's GenTL surface: one system, one interface, a camera per NAME.camera file in the folder $INSPECTD_SIMCAM.
 * A handle points to an object that begins with its kind; stream.c makes the frames. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "stream.h"

#define MAX_CAMERAS 64
#define VENDOR "inspectd"
#define MODEL "simcam"
#define VERSION "1.0"
#define TL_TYPE "Custom"
#define INTERFACE_ID "simcam"

static char names[MAX_CAMERAS][NAME_MAX + 1]; /* of the cameras, as the last update found them */
static uint32_t name_count;
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool initialized;
static struct object the_system = {KIND_SYSTEM}, the_interface = {KIND_INTERFACE};

/* ---- what every call needs ---- */

static __thread int last_error;

static GC_ERROR done(int error) {
    if (error) last_error = error;
    return error;
}

static bool is(HANDLE handle, enum kind kind) { return handle && ((const struct object *)handle)->kind == kind; }

/* GenTL's way to hand out data: without a buffer only the size is told. */
static GC_ERROR put(const void *data, size_t length, void *buffer, size_t *size) {
    if (!size) return done(GC_ERR_INVALID_PARAMETER);
    if (buffer) {
        if (*size < length) return done(GC_ERR_BUFFER_TOO_SMALL);
        memcpy(buffer, data, length);
    }
    *size = length;
    return GC_ERR_SUCCESS;
}

static GC_ERROR put_text(const char *text, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (type) *type = INFO_DATATYPE_STRING;
    return put(text, strlen(text) + 1, buffer, size);
}

static GC_ERROR put_number(uint64_t value, INFO_DATATYPE kind, INFO_DATATYPE *type, void *buffer, size_t *size) {
    uint32_t as32 = (uint32_t)value;
    uint8_t as8 = value != 0;
    if (type) *type = kind;
    switch (kind) {
    case INFO_DATATYPE_BOOL8: return put(&as8, sizeof as8, buffer, size);
    case INFO_DATATYPE_INT32:
    case INFO_DATATYPE_UINT32: return put(&as32, sizeof as32, buffer, size);
    default: return put(&value, sizeof value, buffer, size);
    }
}

/* ---- library ---- */

EXPORT GC_ERROR GCInitLib(void) {
    return done(atomic_exchange(&initialized, true) ? GC_ERR_RESOURCE_IN_USE : GC_ERR_SUCCESS);
}

EXPORT GC_ERROR GCCloseLib(void) {
    return done(atomic_exchange(&initialized, false) ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED);
}

EXPORT GC_ERROR GCGetLastError(GC_ERROR *code, char *text, size_t *size) {
    char said[64];
    snprintf(said, sizeof said, "simcam: error %d", last_error);
    if (code) *code = last_error;
    return put(said, strlen(said) + 1, text, size);
}

static GC_ERROR system_info(CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    Dl_info here;
    switch (what) {
    case TL_INFO_ID: case TL_INFO_DISPLAYNAME: case TL_INFO_MODEL: return put_text(MODEL, type, buffer, size);
    case TL_INFO_NAME: return put_text("simcam.cti", type, buffer, size);
    case TL_INFO_VENDOR: return put_text(VENDOR, type, buffer, size);
    case TL_INFO_VERSION: return put_text(VERSION, type, buffer, size);
    case TL_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case TL_INFO_PATHNAME:
        return put_text(dladdr(&names, &here) ? here.dli_fname : "", type, buffer, size);
    case TL_INFO_CHAR_ENCODING: return put_number(0, INFO_DATATYPE_INT32, type, buffer, size);
    case TL_INFO_GENTL_VER_MAJOR: return put_number(1, INFO_DATATYPE_UINT32, type, buffer, size);
    case TL_INFO_GENTL_VER_MINOR: return put_number(6, INFO_DATATYPE_UINT32, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR GCGetInfo(CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return system_info(what, type, buffer, size);
}

/* ---- system ---- */

EXPORT GC_ERROR TLOpen(HANDLE *system) {
    if (!initialized) return done(GC_ERR_NOT_INITIALIZED);
    *system = &the_system;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR TLClose(HANDLE system) { return done(is(system, KIND_SYSTEM) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE); }

EXPORT GC_ERROR TLGetInfo(HANDLE system, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (!is(system, KIND_SYSTEM)) return done(GC_ERR_INVALID_HANDLE);
    return system_info(what, type, buffer, size);
}

EXPORT GC_ERROR TLUpdateInterfaceList(HANDLE system, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    if (changed) *changed = 0;
    return done(is(system, KIND_SYSTEM) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR TLGetNumInterfaces(HANDLE system, uint32_t *count) {
    *count = 1;
    return done(is(system, KIND_SYSTEM) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR TLGetInterfaceID(HANDLE system, uint32_t index, char *id, size_t *size) {
    if (!is(system, KIND_SYSTEM)) return done(GC_ERR_INVALID_HANDLE);
    return index ? done(GC_ERR_INVALID_INDEX) : put_text(INTERFACE_ID, NULL, id, size);
}

static GC_ERROR interface_info(CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    switch (what) {
    case INTERFACE_INFO_ID: case INTERFACE_INFO_DISPLAYNAME: return put_text(INTERFACE_ID, type, buffer, size);
    case INTERFACE_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR TLGetInterfaceInfo(HANDLE system, const char *id, CMD what, INFO_DATATYPE *type, void *buffer,
                                   size_t *size) {
    if (!is(system, KIND_SYSTEM)) return done(GC_ERR_INVALID_HANDLE);
    return strcmp(id, INTERFACE_ID) ? done(GC_ERR_INVALID_ID) : interface_info(what, type, buffer, size);
}

EXPORT GC_ERROR TLOpenInterface(HANDLE system, const char *id, HANDLE *interface) {
    if (!is(system, KIND_SYSTEM)) return done(GC_ERR_INVALID_HANDLE);
    if (strcmp(id, INTERFACE_ID)) return done(GC_ERR_INVALID_ID);
    *interface = &the_interface;
    return GC_ERR_SUCCESS;
}

/* ---- interface ---- */

EXPORT GC_ERROR IFClose(HANDLE interface) {
    return done(is(interface, KIND_INTERFACE) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR IFGetInfo(HANDLE interface, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (!is(interface, KIND_INTERFACE)) return done(GC_ERR_INVALID_HANDLE);
    return interface_info(what, type, buffer, size);
}

EXPORT GC_ERROR IFGetParentTL(HANDLE interface, HANDLE *system) {
    *system = &the_system;
    return done(is(interface, KIND_INTERFACE) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

static const char *folder(void) {
    const char *path = getenv("INSPECTD_SIMCAM");
    return path ? path : ".";
}

/* The camera NAME of the folder; false if there is none, or it is unplugged. */
static bool find(const char *name, struct device *device) {
    char path[PATH_MAX];
    if (strchr(name, '/') || snprintf(path, sizeof path, "%s/%s.camera", folder(), name) >= (int)sizeof path)
        return false;
    if (!device_map(device, path)) return false;
    if (device_plugged(device->camera)) return true;
    device_unmap(device);
    return false;
}

static int compare(const void *a, const void *b) { return strcmp(a, b); }

EXPORT GC_ERROR IFUpdateDeviceList(HANDLE interface, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    if (!is(interface, KIND_INTERFACE)) return done(GC_ERR_INVALID_HANDLE);
    DIR *listing = opendir(folder());
    pthread_mutex_lock(&names_lock);
    name_count = 0;
    for (struct dirent *entry; listing && name_count < MAX_CAMERAS && (entry = readdir(listing));) {
        struct device device;
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".camera")) continue;
        *dot = 0;
        if (!find(name, &device)) continue;
        bool is_twice = device.camera->faults.is_listed_twice && name_count + 1 < MAX_CAMERAS;
        device_unmap(&device);
        for (int i = 0; i <= is_twice; i++) memcpy(names[name_count++], name, sizeof name);
    }
    qsort(names, name_count, sizeof names[0], compare);
    pthread_mutex_unlock(&names_lock);
    if (listing) closedir(listing);
    if (changed) *changed = 1;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR IFGetNumDevices(HANDLE interface, uint32_t *count) {
    pthread_mutex_lock(&names_lock);
    *count = name_count;
    pthread_mutex_unlock(&names_lock);
    return done(is(interface, KIND_INTERFACE) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR IFGetDeviceID(HANDLE interface, uint32_t index, char *id, size_t *size) {
    if (!is(interface, KIND_INTERFACE)) return done(GC_ERR_INVALID_HANDLE);
    pthread_mutex_lock(&names_lock);
    GC_ERROR error = index >= name_count ? done(GC_ERR_INVALID_INDEX) : put_text(names[index], NULL, id, size);
    pthread_mutex_unlock(&names_lock);
    return error;
}

/* Of a text that fills its place no zero comes behind. */
static GC_ERROR put_field(const char field[TEXT_SIZE], INFO_DATATYPE *type, void *buffer, size_t *size) {
    char text[TEXT_SIZE + 1] = {0};
    memcpy(text, field, TEXT_SIZE);
    return put_text(text, type, buffer, size);
}

static GC_ERROR device_info(const struct device *device, const char *id, int status, CMD what, INFO_DATATYPE *type,
                            void *buffer, size_t *size) {
    const struct camera *camera = device->camera;
    const struct faults *faults = &camera->faults;
    switch (what) {
    case DEVICE_INFO_ID: case DEVICE_INFO_DISPLAYNAME: return put_text(id, type, buffer, size);
    case DEVICE_INFO_VENDOR:
        return *faults->vendor ? put_field(faults->vendor, type, buffer, size) : put_text(VENDOR, type, buffer, size);
    case DEVICE_INFO_MODEL:
        return *faults->model ? put_field(faults->model, type, buffer, size) : put_text(MODEL, type, buffer, size);
    case DEVICE_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case DEVICE_INFO_VERSION: return put_text(VERSION, type, buffer, size);
    case DEVICE_INFO_SERIAL_NUMBER: return put_field(camera->serial, type, buffer, size);
    case DEVICE_INFO_USER_DEFINED_NAME: return put_field(camera->user_id, type, buffer, size);
    case DEVICE_INFO_ACCESS_STATUS: return put_number((uint64_t)status, INFO_DATATYPE_INT32, type, buffer, size);
    case DEVICE_INFO_TIMESTAMP_FREQUENCY: {
        uint64_t hertz = clock_hz(camera);
        return hertz ? put_number(hertz, INFO_DATATYPE_UINT64, type, buffer, size) : done(GC_ERR_NOT_AVAILABLE);
    }
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

/* Whoever has a camera open has its file locked alone; who asks shares the lock for an instant. The unmapping lets go. */
static bool is_free(const struct device *device) { return flock(device->fd, LOCK_SH | LOCK_NB) == 0; }

static bool take(const struct device *device) {
    while (flock(device->fd, LOCK_EX | LOCK_NB) != 0)
        if (!is_free(device)) return false; /* not just somebody who asks */
    return true;
}

EXPORT GC_ERROR IFGetDeviceInfo(HANDLE interface, const char *id, CMD what, INFO_DATATYPE *type, void *buffer,
                                size_t *size) {
    struct device device;
    if (!is(interface, KIND_INTERFACE)) return done(GC_ERR_INVALID_HANDLE);
    if (!find(id, &device)) return done(GC_ERR_INVALID_ID);
    int status = is_free(&device) ? DEVICE_ACCESS_STATUS_READWRITE : DEVICE_ACCESS_STATUS_BUSY;
    GC_ERROR error = device_info(&device, id, status, what, type, buffer, size);
    device_unmap(&device);
    return error;
}

EXPORT GC_ERROR IFOpenDevice(HANDLE interface, const char *id, CMD access, HANDLE *opened) {
    struct device device;
    (void)access; /* whoever opens a camera has it alone, as most cameras grant no more */
    if (!is(interface, KIND_INTERFACE)) return done(GC_ERR_INVALID_HANDLE);
    if (!find(id, &device)) return done(GC_ERR_INVALID_ID);
    faults_delay(&device.camera->faults, CALL_OPEN);
    struct open_camera *made = take(&device) ? calloc(1, sizeof *made) : NULL;
    if (!made) {
        device_unmap(&device);
        return done(GC_ERR_RESOURCE_IN_USE);
    }
    device.camera->reg[R_TL_PARAMS_LOCKED] = 0; /* whoever had it before may have been killed */
    made->object.kind = KIND_DEVICE;
    made->remote.kind = KIND_REMOTE;
    made->device = device;
    snprintf(made->id, sizeof made->id, "%s", id);
    stream_init(made);
    *opened = made;
    return GC_ERR_SUCCESS;
}

/* ---- device ---- */

static struct open_camera *opened_by(HANDLE handle) {
    if (is(handle, KIND_DEVICE)) return handle;
    if (is(handle, KIND_REMOTE)) return (struct open_camera *)((char *)handle - offsetof(struct open_camera, remote));
    if (is(handle, KIND_STREAM)) return (struct open_camera *)((char *)handle - offsetof(struct open_camera, stream));
    return NULL;
}

EXPORT GC_ERROR DevClose(HANDLE handle) {
    if (!is(handle, KIND_DEVICE)) return done(GC_ERR_INVALID_HANDLE);
    struct open_camera *opened = handle;
    faults_delay(&opened->device.camera->faults, CALL_CLOSE);
    stream_close(opened);
    device_unmap(&opened->device);
    opened->object.kind = opened->remote.kind = KIND_NONE;
    free(opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DevGetInfo(HANDLE handle, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (!is(handle, KIND_DEVICE)) return done(GC_ERR_INVALID_HANDLE);
    const struct open_camera *opened = handle;
    int status = device_alive(&opened->device) ? DEVICE_ACCESS_STATUS_OPEN_READWRITE : DEVICE_ACCESS_STATUS_NOACCESS;
    return device_info(&opened->device, opened->id, status, what, type, buffer, size);
}

EXPORT GC_ERROR DevGetPort(HANDLE handle, HANDLE *port) {
    if (!is(handle, KIND_DEVICE)) return done(GC_ERR_INVALID_HANDLE);
    *port = &((struct open_camera *)handle)->remote;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DevGetParentIF(HANDLE handle, HANDLE *interface) {
    *interface = &the_interface;
    return done(is(handle, KIND_DEVICE) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR DevGetNumDataStreams(HANDLE handle, uint32_t *count) {
    *count = 1;
    return done(is(handle, KIND_DEVICE) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR DevGetDataStreamID(HANDLE handle, uint32_t index, char *id, size_t *size) {
    if (!is(handle, KIND_DEVICE)) return done(GC_ERR_INVALID_HANDLE);
    return index ? done(GC_ERR_INVALID_INDEX) : put_text("stream0", NULL, id, size);
}

EXPORT GC_ERROR DevOpenDataStream(HANDLE handle, const char *id, HANDLE *stream) {
    if (!is(handle, KIND_DEVICE)) return done(GC_ERR_INVALID_HANDLE);
    struct open_camera *opened = handle;
    if (strcmp(id, "stream0")) return done(GC_ERR_INVALID_ID);
    if (opened->stream.object.kind == KIND_STREAM) return done(GC_ERR_RESOURCE_IN_USE);
    opened->stream.object.kind = KIND_STREAM;
    *stream = &opened->stream;
    return GC_ERR_SUCCESS;
}

/* ---- ports: the remote device and the stream have registers and a description ---- */

EXPORT GC_ERROR GCReadPort(HANDLE port, uint64_t address, void *buffer, size_t *size) {
    struct open_camera *opened = opened_by(port);
    if (is(port, KIND_REMOTE)) return done(device_read(&opened->device, address, buffer, *size));
    if (is(port, KIND_STREAM)) return done(stream_read(opened, address, buffer, *size));
    return done(opened ? GC_ERR_NOT_IMPLEMENTED : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR GCWritePort(HANDLE port, uint64_t address, const void *buffer, size_t *size) {
    struct open_camera *opened = opened_by(port);
    if (!is(port, KIND_REMOTE)) return done(opened ? GC_ERR_NOT_IMPLEMENTED : GC_ERR_INVALID_HANDLE);
    int error = device_write(&opened->device, address, buffer, *size);
    if (error) return done(error);
    switch (address) {
    case REGISTERS + 8 * R_ACQUISITION_START: stream_expose(opened, true); break;
    case REGISTERS + 8 * R_ACQUISITION_STOP:
        faults_delay(&opened->device.camera->faults, CALL_ACQUISITION_STOP);
        stream_expose(opened, false);
        break;
    case REGISTERS + 8 * R_TRIGGER_SOFTWARE: stream_software_trigger(opened); break;
    default: break;
    }
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR GCGetPortInfo(HANDLE port, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    bool remote = is(port, KIND_REMOTE), stream = is(port, KIND_STREAM);
    if (!remote && !stream && !is(port, KIND_DEVICE) && !is(port, KIND_SYSTEM) && !is(port, KIND_INTERFACE))
        return done(GC_ERR_INVALID_HANDLE);
    switch (what) {
    case PORT_INFO_ID: return put_text(MODEL, type, buffer, size);
    case PORT_INFO_VENDOR: return put_text(VENDOR, type, buffer, size);
    case PORT_INFO_MODEL: return put_text(MODEL, type, buffer, size);
    case PORT_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case PORT_INFO_VERSION: return put_text(VERSION, type, buffer, size);
    case PORT_INFO_MODULE: return put_text(remote ? "Device" : stream ? "TLDataStream" : "TLSystem", type, buffer, size);
    case PORT_INFO_PORTNAME: return put_text(stream ? "StreamPort" : "Device", type, buffer, size);
    case PORT_INFO_LITTLE_ENDIAN: case PORT_INFO_ACCESS_READ: return put_number(1, INFO_DATATYPE_BOOL8, type, buffer, size);
    case PORT_INFO_ACCESS_WRITE: return put_number(remote, INFO_DATATYPE_BOOL8, type, buffer, size);
    case PORT_INFO_BIG_ENDIAN: case PORT_INFO_ACCESS_NA: case PORT_INFO_ACCESS_NI:
        return put_number(0, INFO_DATATYPE_BOOL8, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR GCGetNumPortURLs(HANDLE port, uint32_t *count) {
    *count = 1;
    return done(is(port, KIND_REMOTE) || is(port, KIND_STREAM) ? GC_ERR_SUCCESS : GC_ERR_NOT_AVAILABLE);
}

/* The descriptions lie beside this library: camera.xml and stream.xml. */
static GC_ERROR port_url(HANDLE port, INFO_DATATYPE *type, void *buffer, size_t *size) {
    Dl_info here;
    char path[PATH_MAX], url[PATH_MAX + 32];
    if (!is(port, KIND_REMOTE) && !is(port, KIND_STREAM)) return done(GC_ERR_NOT_AVAILABLE);
    if (!dladdr(&names, &here) || !realpath(here.dli_fname, path)) return done(GC_ERR_NOT_AVAILABLE);
    char *slash = strrchr(path, '/');
    *(slash ? slash : path) = 0;
    snprintf(url, sizeof url, "file://%s/%s.xml", path, is(port, KIND_REMOTE) ? "camera" : "stream");
    return put_text(url, type, buffer, size);
}

EXPORT GC_ERROR GCGetPortURL(HANDLE port, char *url, size_t *size) { return port_url(port, NULL, url, size); }

EXPORT GC_ERROR GCGetPortURLInfo(HANDLE port, uint32_t index, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (index) return done(GC_ERR_INVALID_INDEX);
    switch (what) {
    case URL_INFO_URL: return port_url(port, type, buffer, size);
    case URL_INFO_SCHEMA_VER_MAJOR: case URL_INFO_SCHEMA_VER_MINOR:
        return put_number(1, INFO_DATATYPE_INT32, type, buffer, size);
    case URL_INFO_SCHEME: return put_number(URL_SCHEME_FILE, INFO_DATATYPE_INT32, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

/* ---- events and streams: see stream.c ---- */

EXPORT GC_ERROR GCRegisterEvent(HANDLE source, CMD event, HANDLE *registered) {
    if (!is(source, KIND_STREAM) || event != EVENT_NEW_BUFFER) return done(GC_ERR_NOT_IMPLEMENTED);
    struct stream *stream = source;
    stream->event.kind = KIND_EVENT;
    *registered = &stream->event;
    return GC_ERR_SUCCESS;
}

static struct open_camera *opened_by_event(HANDLE event) {
    if (!is(event, KIND_EVENT)) return NULL;
    return (struct open_camera *)((char *)event - offsetof(struct open_camera, stream.event));
}

EXPORT GC_ERROR GCUnregisterEvent(HANDLE source, CMD event) {
    if (!is(source, KIND_STREAM) || event != EVENT_NEW_BUFFER) return done(GC_ERR_NOT_IMPLEMENTED);
    stream_end_waits(opened_by(source));
    ((struct stream *)source)->event.kind = KIND_NONE;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR EventGetData(HANDLE event, void *buffer, size_t *size, uint64_t timeout_ms) {
    struct open_camera *opened = opened_by_event(event);
    struct new_buffer_event data;
    if (!opened) return done(GC_ERR_INVALID_HANDLE);
    if (!buffer || !size) return done(GC_ERR_INVALID_PARAMETER); /* a buffer would be fetched, and told to nobody */
    if (*size < sizeof data) return done(GC_ERR_BUFFER_TOO_SMALL);
    int error = stream_wait(opened, timeout_ms, &data);
    return error ? done(error) : put(&data, sizeof data, buffer, size);
}

EXPORT GC_ERROR EventGetDataInfo(HANDLE event, const void *in, size_t in_size, CMD what, INFO_DATATYPE *type, void *out,
                                 size_t *size) {
    if (!opened_by_event(event)) return done(GC_ERR_INVALID_HANDLE);
    if (in_size < sizeof(struct new_buffer_event)) return done(GC_ERR_INVALID_PARAMETER);
    const struct new_buffer_event *data = in;
    if (what != EVENT_DATA_ID && what != EVENT_DATA_VALUE) return done(GC_ERR_NOT_IMPLEMENTED);
    return put_number((uint64_t)(uintptr_t)(what == EVENT_DATA_ID ? data->buffer : data->user), INFO_DATATYPE_PTR, type, out,
                      size);
}

EXPORT GC_ERROR EventGetInfo(HANDLE event, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    struct open_camera *opened = opened_by_event(event);
    if (!opened) return done(GC_ERR_INVALID_HANDLE);
    switch (what) {
    case EVENT_EVENT_TYPE: return put_number(EVENT_NEW_BUFFER, INFO_DATATYPE_INT32, type, buffer, size);
    case EVENT_NUM_IN_QUEUE: return put_number(stream_count(opened, WAITING), INFO_DATATYPE_SIZET, type, buffer, size);
    case EVENT_NUM_FIRED: return put_number(opened->stream.delivered, INFO_DATATYPE_UINT64, type, buffer, size);
    case EVENT_SIZE_MAX: case EVENT_INFO_DATA_SIZE_MAX:
        return put_number(sizeof(struct new_buffer_event), INFO_DATATYPE_SIZET, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR EventFlush(HANDLE event) {
    struct open_camera *opened = opened_by_event(event);
    return done(opened ? stream_flush(opened, ACQ_QUEUE_OUTPUT_DISCARD) : GC_ERR_INVALID_HANDLE);
}

EXPORT GC_ERROR EventKill(HANDLE event) {
    struct open_camera *opened = opened_by_event(event);
    if (!opened) return done(GC_ERR_INVALID_HANDLE);
    stream_kill(opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSClose(HANDLE stream) {
    struct open_camera *opened = opened_by(stream);
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    stream_close(opened);
    stream_init(opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSGetParentDev(HANDLE stream, HANDLE *device) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    *device = &opened_by(stream)->object;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSGetInfo(HANDLE handle, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    if (!is(handle, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    struct open_camera *opened = opened_by(handle);
    const struct stream *stream = handle;
    switch (what) {
    case STREAM_INFO_ID: return put_text("stream0", type, buffer, size);
    case STREAM_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case STREAM_INFO_NUM_DELIVERED: return put_number(stream->delivered, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_UNDERRUN: return put_number(stream->underrun, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_STARTED: return put_number(stream->started, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_ANNOUNCED: return put_number(stream->announced, INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_QUEUED: return put_number(stream_count(opened, QUEUED), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_AWAIT_DELIVERY:
        return put_number(stream_count(opened, WAITING), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_IS_GRABBING: return put_number(stream->running, INFO_DATATYPE_BOOL8, type, buffer, size);
    case STREAM_INFO_DEFINES_PAYLOADSIZE: return put_number(1, INFO_DATATYPE_BOOL8, type, buffer, size);
    case STREAM_INFO_PAYLOAD_SIZE: return put_number(stream_payload_size(opened), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_CHUNKS_MAX: return put_number(CHUNKS, INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_BUF_ANNOUNCE_MIN: case STREAM_INFO_BUF_ALIGNMENT:
        return put_number(1, INFO_DATATYPE_SIZET, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR DSAnnounceBuffer(HANDLE stream, void *base, size_t size, void *user, HANDLE *buffer) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    if (!base) return done(GC_ERR_INVALID_PARAMETER);
    return done(stream_announce(opened_by(stream), base, size, user, buffer));
}

EXPORT GC_ERROR DSAllocAndAnnounceBuffer(HANDLE stream, size_t size, void *user, HANDLE *buffer) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    return done(stream_announce(opened_by(stream), NULL, size, user, buffer));
}

EXPORT GC_ERROR DSRevokeBuffer(HANDLE stream, HANDLE buffer, void **base, void **user) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    return done(stream_revoke(opened_by(stream), buffer, base, user));
}

EXPORT GC_ERROR DSQueueBuffer(HANDLE stream, HANDLE buffer) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    return done(stream_queue(opened_by(stream), buffer));
}

EXPORT GC_ERROR DSFlushQueue(HANDLE stream, CMD operation) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    return done(stream_flush(opened_by(stream), operation));
}

EXPORT GC_ERROR DSGetBufferID(HANDLE stream, uint32_t index, HANDLE *buffer) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    *buffer = stream_buffer_at(opened_by(stream), index);
    return done(*buffer ? GC_ERR_SUCCESS : GC_ERR_INVALID_INDEX);
}

EXPORT GC_ERROR DSStartAcquisition(HANDLE stream, CMD flags, uint64_t frames) {
    (void)flags, (void)frames; /* AcquisitionMode is the remote device's own matter */
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    return done(stream_start(opened_by(stream)));
}

EXPORT GC_ERROR DSStopAcquisition(HANDLE stream, CMD flags) {
    (void)flags;
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    stream_stop(opened_by(stream));
    /* A camera that is gone does not confirm: real producers then fail half-way, and the host must cope. */
    return done(device_alive(&opened_by(stream)->device) ? GC_ERR_SUCCESS : GC_ERR_IO);
}

static GC_ERROR buffer_time(const struct open_camera *opened, const struct buffer *buffer, CMD what, INFO_DATATYPE *type,
                            void *out, size_t *size) {
    uint32_t mode = opened->device.camera->timestamp_mode;
    bool has_ns = mode == TIMESTAMP_NS || mode == TIMESTAMP_ZERO;
    if (mode == TIMESTAMP_ABSENT || (what == BUFFER_INFO_TIMESTAMP_NS && !has_ns))
        return done(GC_ERR_NOT_AVAILABLE);
    return put_number(buffer->timestamp, INFO_DATATYPE_UINT64, type, out, size);
}

EXPORT GC_ERROR DSGetBufferInfo(HANDLE stream, HANDLE handle, CMD what, INFO_DATATYPE *type, void *out, size_t *size) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    struct buffer seen;
    if (!stream_look(opened_by(stream), handle, &seen)) return done(GC_ERR_INVALID_HANDLE);
    const struct buffer *b = &seen;
    uint64_t number;
    INFO_DATATYPE kind = INFO_DATATYPE_SIZET;
    switch (what) {
    case BUFFER_INFO_TIMESTAMP: case BUFFER_INFO_TIMESTAMP_NS:
        return buffer_time(opened_by(stream), b, what, type, out, size);
    case BUFFER_INFO_TLTYPE: return put_text(TL_TYPE, type, out, size);
    case BUFFER_INFO_BASE: number = (uintptr_t)b->base, kind = INFO_DATATYPE_PTR; break;
    case BUFFER_INFO_USER_PTR: number = (uintptr_t)b->user, kind = INFO_DATATYPE_PTR; break;
    case BUFFER_INFO_FRAMEID:
        if (b->has_no_id) return done(GC_ERR_NOT_AVAILABLE);
        number = b->frame_id, kind = INFO_DATATYPE_UINT64;
        break;
    case BUFFER_INFO_PIXELFORMAT: number = b->pixel_format, kind = INFO_DATATYPE_UINT64; break;
    case BUFFER_INFO_PIXELFORMAT_NAMESPACE: number = PIXELFORMAT_NAMESPACE_PFNC_32BIT, kind = INFO_DATATYPE_UINT64; break;
    case BUFFER_INFO_NEW_DATA: number = b->state == DELIVERED && b->filled, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_IS_QUEUED:
        number = b->state != ANNOUNCED && b->state != DELIVERED, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_IS_ACQUIRING: number = b->state == FILLING, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_IS_INCOMPLETE: number = b->incomplete, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_IMAGEPRESENT: number = 1, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_CONTAINS_CHUNKDATA: number = b->has_chunks, kind = INFO_DATATYPE_BOOL8; break;
    case BUFFER_INFO_PIXEL_ENDIANNESS: number = PIXELENDIANNESS_LITTLE, kind = INFO_DATATYPE_INT32; break;
    case BUFFER_INFO_SIZE: number = b->size; break;
    case BUFFER_INFO_SIZE_FILLED: case BUFFER_INFO_DATA_SIZE: number = b->filled; break;
    case BUFFER_INFO_WIDTH: number = b->width; break;
    case BUFFER_INFO_HEIGHT: number = b->height; break;
    case BUFFER_INFO_DELIVERED_IMAGEHEIGHT: number = b->lines; break;
    case BUFFER_INFO_XPADDING: number = b->padding; break;
    case BUFFER_INFO_XOFFSET: case BUFFER_INFO_YOFFSET: case BUFFER_INFO_YPADDING:
    case BUFFER_INFO_IMAGEOFFSET: number = 0; break;
    case BUFFER_INFO_PAYLOADTYPE: number = PAYLOAD_TYPE_IMAGE; break;
    case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE: number = b->has_chunks ? CHUNKS * 8 : 0; break;
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
    return put_number(number, kind, type, out, size);
}

EXPORT GC_ERROR DSGetBufferChunkData(HANDLE stream, HANDLE handle, struct single_chunk_data *chunks, size_t *count) {
    if (!is(stream, KIND_STREAM)) return done(GC_ERR_INVALID_HANDLE);
    struct buffer seen;
    if (!stream_look(opened_by(stream), handle, &seen)) return done(GC_ERR_INVALID_HANDLE);
    size_t found = seen.has_chunks ? CHUNKS : 0;
    if (chunks) {
        if (*count < found) return done(GC_ERR_BUFFER_TOO_SMALL);
        for (size_t i = 0; i < found; i++)
            chunks[i] = (struct single_chunk_data){CHUNK_IDS + i, (ptrdiff_t)(seen.chunks_at + 8 * i), 8};
    }
    *count = found;
    return GC_ERR_SUCCESS;
}

/* What simcam has nothing for; the host's loader mutters about each function that is not there at all. No arguments
 * are looked at, so all have the same shape. */
#define NOT_IMPLEMENTED(name) \
    EXPORT GC_ERROR name(void); \
    EXPORT GC_ERROR name(void) { return done(GC_ERR_NOT_IMPLEMENTED); }
NOT_IMPLEMENTED(GCReadPortStacked)
NOT_IMPLEMENTED(GCWritePortStacked)
NOT_IMPLEMENTED(DSGetNumBufferParts)
NOT_IMPLEMENTED(DSGetBufferPartInfo)
NOT_IMPLEMENTED(DSAnnounceCompositeBuffer)
NOT_IMPLEMENTED(DSGetNumFlows)
NOT_IMPLEMENTED(DSGetFlowInfo)
NOT_IMPLEMENTED(DSGetNumBufferSegments)
NOT_IMPLEMENTED(DSGetBufferSegmentInfo)

EXPORT size_t simcam_size(void) { return sizeof(struct camera); }
