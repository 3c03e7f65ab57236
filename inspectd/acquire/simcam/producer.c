/* simcam's GenTL surface: one system, one interface, a camera per NAME.camera file in the folder $INSPECTD_SIMCAM;
 * a second interface where a camera shall be seen through two.
 * handles.c knows which handles there are, ports.c what GenApi reads of the modules; stream.c makes the frames. */
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

#include "ports.h"
#include "stream.h"

#define MAX_CAMERAS 64
#define VENDOR "inspectd"
#define MODEL "simcam"
#define VERSION "1.0"
#define TL_TYPE "Custom"
#define INTERFACE_ID "simcam"
#define STREAM_ID "stream0"

static struct interface {
    const char *id;
    char names[MAX_CAMERAS][NAME_MAX + 1]; /* of its cameras, as the last update found them */
    uint32_t count, selected;              /* the camera whose infos its port shows */
} interfaces[] = {{.id = INTERFACE_ID}, {.id = "simcam2"}};
static uint32_t interface_count = 1, interface_selected; /* the second one is there if it has a camera */
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER; /* for all of these */
static atomic_bool initialized, interfaces_listed; /* since the system was opened */
static char the_system; /* what its handle stands for */

/* ---- what every call needs ---- */

static __thread int last_error;

static GC_ERROR done(int error) {
    if (error) last_error = error;
    return error;
}

static GC_ERROR no_handle(void) { return done(initialized ? GC_ERR_INVALID_HANDLE : GC_ERR_NOT_INITIALIZED); }

/* `name` is the object of a handle of this kind, until the function ends, which it does here if the handle is none. */
#define HOLD(type, name, number, kind) \
    HELD held_##name = handle_hold(number, kind); \
    type *name = held_##name.object; \
    if (!name) return no_handle()

#define NEED(pointer) \
    if (!(pointer)) return done(GC_ERR_INVALID_PARAMETER)

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

static void shut_system(struct handle *system);

EXPORT GC_ERROR GCCloseLib(void) {
    if (!atomic_exchange(&initialized, false)) return done(GC_ERR_NOT_INITIALIZED);
    struct handle *system = handle_retire(handle_of(KIND_SYSTEM, &the_system), KIND_SYSTEM);
    if (system) shut_system(system); /* with all that is still open */
    return GC_ERR_SUCCESS;
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
        return put_text(dladdr(&interfaces, &here) ? here.dli_fname : "", type, buffer, size);
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

static GC_ERROR tell_system(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    (void)of; /* there is one */
    return system_info(what, type, buffer, size);
}

EXPORT GC_ERROR TLOpen(HANDLE *system) {
    if (!initialized) return done(GC_ERR_NOT_INITIALIZED);
    NEED(system);
    int error = handle_make(KIND_SYSTEM, &the_system, system);
    if (!error) interfaces_listed = false;
    return done(error);
}

static GC_ERROR close_one(HANDLE number, enum kind kind, void (*shut)(struct handle *retired)) {
    struct handle *handle = handle_retire(number, kind);
    if (!handle) return no_handle();
    shut(handle);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR TLClose(HANDLE handle) { return close_one(handle, KIND_SYSTEM, shut_system); }

EXPORT GC_ERROR TLGetInfo(HANDLE handle, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HOLD(void, system, handle, KIND_SYSTEM);
    return system_info(what, type, buffer, size);
}

static bool update_interfaces(void);

EXPORT GC_ERROR TLUpdateInterfaceList(HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    HOLD(void, system, handle, KIND_SYSTEM);
    bool is_new = !atomic_exchange(&interfaces_listed, true), has_changed = update_interfaces();
    if (changed) *changed = is_new || has_changed;
    return GC_ERR_SUCCESS;
}

static uint32_t count_interfaces(void) {
    pthread_mutex_lock(&names_lock);
    uint32_t count = interface_count;
    pthread_mutex_unlock(&names_lock);
    return count;
}

EXPORT GC_ERROR TLGetNumInterfaces(HANDLE handle, uint32_t *count) {
    HOLD(void, system, handle, KIND_SYSTEM);
    NEED(count);
    *count = count_interfaces();
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR TLGetInterfaceID(HANDLE handle, uint32_t index, char *id, size_t *size) {
    HOLD(void, system, handle, KIND_SYSTEM);
    return index >= count_interfaces() ? done(GC_ERR_INVALID_INDEX) : put_text(interfaces[index].id, NULL, id, size);
}

static GC_ERROR tell_interface(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    const struct interface *interface = of;
    switch (what) {
    case INTERFACE_INFO_ID: case INTERFACE_INFO_DISPLAYNAME: return put_text(interface->id, type, buffer, size);
    case INTERFACE_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

/* NULL if there is none with this id. */
static struct interface *interface_called(const char *id) {
    for (uint32_t i = count_interfaces(); i-- > 0;)
        if (strcmp(id, interfaces[i].id) == 0) return &interfaces[i];
    return NULL;
}

EXPORT GC_ERROR TLGetInterfaceInfo(HANDLE handle, const char *id, CMD what, INFO_DATATYPE *type, void *buffer,
                                   size_t *size) {
    HOLD(void, system, handle, KIND_SYSTEM);
    NEED(id);
    const struct interface *found = interface_called(id);
    return found ? tell_interface(found, what, type, buffer, size) : done(GC_ERR_INVALID_ID);
}

EXPORT GC_ERROR TLOpenInterface(HANDLE handle, const char *id, HANDLE *interface) {
    HOLD(void, system, handle, KIND_SYSTEM);
    NEED(id && interface);
    struct interface *found = interface_called(id);
    return done(found ? handle_make(KIND_INTERFACE, found, interface) : GC_ERR_INVALID_ID);
}

/* ---- interface ---- */

static void shut_device(struct handle *device);

static bool is_through(const void *object, const void *interface) {
    return ((const struct open_camera *)object)->interface == interface;
}

/* Who closes a module closes all that was opened through it. */
static void shut_interface(struct handle *interface) {
    const void *own = handle_object(interface);
    struct handle *device;
    handle_drain(interface, NULL); /* from now on nobody opens another device */
    while ((device = handle_retire(handle_where(KIND_DEVICE, is_through, own), KIND_DEVICE))) shut_device(device);
    handle_drop(interface);
}

static void shut_system(struct handle *system) {
    handle_drain(system, NULL);
    for (size_t i = 0; i < sizeof interfaces / sizeof interfaces[0]; i++) {
        struct handle *interface = handle_retire(handle_of(KIND_INTERFACE, &interfaces[i]), KIND_INTERFACE);
        if (interface) shut_interface(interface);
    }
    handle_drop(system);
}

EXPORT GC_ERROR IFClose(HANDLE handle) { return close_one(handle, KIND_INTERFACE, shut_interface); }

EXPORT GC_ERROR IFGetInfo(HANDLE handle, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HOLD(struct interface, interface, handle, KIND_INTERFACE);
    return tell_interface(interface, what, type, buffer, size);
}

EXPORT GC_ERROR IFGetParentTL(HANDLE handle, HANDLE *system) {
    HOLD(void, interface, handle, KIND_INTERFACE);
    NEED(system);
    *system = handle_of(KIND_SYSTEM, &the_system);
    return GC_ERR_SUCCESS;
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

/* How often an interface lists a camera. */
static int times_listed(const struct interface *interface, const struct camera *camera) {
    uint64_t listed = camera->faults.listed;
    if (interface != &interfaces[0]) return listed == LISTED_BY_TWO;
    return listed == LISTED_TWICE ? 2 : 1;
}

/* Under the lock: the cameras of the folder, sorted. */
static void list_names(struct interface *interface) {
    DIR *listing = opendir(folder());
    interface->count = 0;
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        struct device device;
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%s", entry->d_name);
        char *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".camera")) continue;
        *dot = 0;
        if (!find(name, &device)) continue;
        int times = times_listed(interface, device.camera);
        device_unmap(&device);
        for (; times && interface->count < MAX_CAMERAS; times--)
            memcpy(interface->names[interface->count++], name, sizeof name);
    }
    qsort(interface->names, interface->count, sizeof interface->names[0], compare);
    if (interface->selected >= interface->count) interface->selected = 0;
    if (listing) closedir(listing);
}

static void update_names(struct interface *interface) {
    pthread_mutex_lock(&names_lock);
    list_names(interface);
    pthread_mutex_unlock(&names_lock);
}

/* Whether there are more or fewer than before. */
static bool update_interfaces(void) {
    pthread_mutex_lock(&names_lock);
    uint32_t before = interface_count;
    list_names(&interfaces[1]);
    interface_count = interfaces[1].count ? 2 : 1;
    if (interface_selected >= interface_count) interface_selected = 0;
    bool has_changed = interface_count != before;
    pthread_mutex_unlock(&names_lock);
    return has_changed;
}

EXPORT GC_ERROR IFUpdateDeviceList(HANDLE handle, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    HOLD(struct interface, interface, handle, KIND_INTERFACE);
    update_names(interface);
    if (changed) *changed = 1;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR IFGetNumDevices(HANDLE handle, uint32_t *count) {
    HOLD(struct interface, interface, handle, KIND_INTERFACE);
    NEED(count);
    pthread_mutex_lock(&names_lock);
    *count = interface->count;
    pthread_mutex_unlock(&names_lock);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR IFGetDeviceID(HANDLE handle, uint32_t index, char *id, size_t *size) {
    HOLD(struct interface, interface, handle, KIND_INTERFACE);
    pthread_mutex_lock(&names_lock);
    bool is_there = index < interface->count;
    GC_ERROR error = is_there ? put_text(interface->names[index], NULL, id, size) : done(GC_ERR_INVALID_INDEX);
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

static GC_ERROR tell_listed(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    const char *id = of;
    struct device device;
    if (!find(id, &device)) return done(GC_ERR_INVALID_ID);
    int status = is_free(&device) ? DEVICE_ACCESS_STATUS_READWRITE : DEVICE_ACCESS_STATUS_BUSY;
    GC_ERROR error = device_info(&device, id, status, what, type, buffer, size);
    device_unmap(&device);
    return error;
}

EXPORT GC_ERROR IFGetDeviceInfo(HANDLE handle, const char *id, CMD what, INFO_DATATYPE *type, void *buffer,
                                size_t *size) {
    HOLD(void, interface, handle, KIND_INTERFACE);
    NEED(id);
    return tell_listed(id, what, type, buffer, size);
}

static void let_go(struct open_camera *opened) {
    stream_close(opened);
    pthread_mutex_destroy(&opened->starting);
    device_unmap(&opened->device);
    free(opened);
}

EXPORT GC_ERROR IFOpenDevice(HANDLE handle, const char *id, CMD access, HANDLE *opened) {
    struct device device;
    HANDLE remote;
    (void)access; /* whoever opens a camera has it alone, as most cameras grant no more */
    HOLD(struct interface, interface, handle, KIND_INTERFACE);
    NEED(id && opened);
    if (!find(id, &device)) return done(GC_ERR_INVALID_ID);
    faults_delay(&device.camera->faults, CALL_OPEN);
    struct open_camera *made = take(&device) ? calloc(1, sizeof *made) : NULL;
    if (!made) {
        device_unmap(&device);
        return done(GC_ERR_RESOURCE_IN_USE);
    }
    device.camera->reg[R_TL_PARAMS_LOCKED] = 0; /* whoever had it before may have been killed */
    made->device = device;
    made->interface = interface;
    snprintf(made->id, sizeof made->id, "%s", id);
    pthread_mutex_init(&made->starting, NULL);
    stream_init(made);
    int error = handle_make(KIND_REMOTE, made, &remote);
    if (!error && (error = handle_make(KIND_DEVICE, made, opened))) handle_end(KIND_REMOTE, made, NULL);
    if (error) let_go(made);
    return done(error);
}

/* ---- device ---- */

static void end_waits(void *opened) { stream_end_waits(opened); }

static void shut_device(struct handle *device) {
    struct open_camera *opened = handle_object(device);
    faults_delay(&opened->device.camera->faults, CALL_CLOSE);
    handle_drain(device, NULL); /* from now on nobody opens its stream */
    handle_end(KIND_REMOTE, opened, NULL);
    handle_end(KIND_STREAM, opened, NULL);
    handle_end(KIND_EVENT, opened, end_waits);
    handle_drop(device);
    let_go(opened);
}

EXPORT GC_ERROR DevClose(HANDLE handle) { return close_one(handle, KIND_DEVICE, shut_device); }

static GC_ERROR tell_device(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    const struct open_camera *opened = of;
    int status = device_alive(&opened->device) ? DEVICE_ACCESS_STATUS_OPEN_READWRITE : DEVICE_ACCESS_STATUS_NOACCESS;
    return device_info(&opened->device, opened->id, status, what, type, buffer, size);
}

EXPORT GC_ERROR DevGetInfo(HANDLE handle, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    return tell_device(opened, what, type, buffer, size);
}

EXPORT GC_ERROR DevGetPort(HANDLE handle, HANDLE *port) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    NEED(port);
    *port = handle_of(KIND_REMOTE, opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DevGetParentIF(HANDLE handle, HANDLE *interface) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    NEED(interface);
    *interface = handle_of(KIND_INTERFACE, opened->interface);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DevGetNumDataStreams(HANDLE handle, uint32_t *count) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    NEED(count);
    *count = 1;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DevGetDataStreamID(HANDLE handle, uint32_t index, char *id, size_t *size) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    return index ? done(GC_ERR_INVALID_INDEX) : put_text(STREAM_ID, NULL, id, size);
}

EXPORT GC_ERROR DevOpenDataStream(HANDLE handle, const char *id, HANDLE *stream) {
    HOLD(struct open_camera, opened, handle, KIND_DEVICE);
    NEED(id && stream);
    if (strcmp(id, STREAM_ID)) return done(GC_ERR_INVALID_ID);
    return done(handle_make(KIND_STREAM, opened, stream));
}

static GC_ERROR tell_stream(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    struct open_camera *opened = (struct open_camera *)(uintptr_t)of; /* counting its buffers takes its lock */
    const struct stream *stream = &opened->stream;
    switch (what) {
    case STREAM_INFO_ID: return put_text(STREAM_ID, type, buffer, size);
    case STREAM_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case STREAM_INFO_NUM_DELIVERED: return put_number(stream->delivered, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_UNDERRUN: return put_number(stream->underrun, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_STARTED: return put_number(stream->started, INFO_DATATYPE_UINT64, type, buffer, size);
    case STREAM_INFO_NUM_ANNOUNCED: return put_number(stream->announced, INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_QUEUED: return put_number(stream_count(opened, QUEUED), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_AWAIT_DELIVERY:
        return put_number(stream_count(opened, WAITING), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_IS_GRABBING: return put_number(stream_is_running(opened), INFO_DATATYPE_BOOL8, type, buffer, size);
    case STREAM_INFO_DEFINES_PAYLOADSIZE: return put_number(1, INFO_DATATYPE_BOOL8, type, buffer, size);
    case STREAM_INFO_PAYLOAD_SIZE: return put_number(stream_payload_size(opened), INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_NUM_CHUNKS_MAX: return put_number(CHUNKS, INFO_DATATYPE_SIZET, type, buffer, size);
    case STREAM_INFO_BUF_ANNOUNCE_MIN: case STREAM_INFO_BUF_ALIGNMENT:
        return put_number(1, INFO_DATATYPE_SIZET, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

/* ---- ports: each module has registers and a description ---- */

/* Holds what has a port, of whatever kind. */
static bool hold_port(HANDLE handle, struct held *held, enum kind *kind) {
    for (*kind = KIND_SYSTEM; *kind <= KIND_STREAM; (*kind)++) {
        *held = handle_hold(handle, *kind);
        if (held->object) return true;
    }
    return false;
}

static int read_list(const void *of, enum kind kind, uint64_t address, void *data, size_t size) {
    const struct interface *interface = of;
    uint32_t count = 1, selected = 0; /* one stream */
    pthread_mutex_lock(&names_lock);
    if (kind == KIND_SYSTEM) count = interface_count, selected = interface_selected;
    if (kind == KIND_INTERFACE) count = interface->count, selected = interface->selected;
    pthread_mutex_unlock(&names_lock);
    switch (address) {
    case LIST_SELECTOR: return port_read_number(selected, data, size);
    case LIST_COUNT: return port_read_number(count, data, size);
    case LIST_LAST: return port_read_number(count ? count - 1 : 0, data, size);
    default: return GC_ERR_INVALID_ADDRESS;
    }
}

static int write_list(void *of, enum kind kind, uint64_t address, const void *data, size_t size) {
    struct interface *interface = of;
    uint64_t value;
    if (kind != KIND_SYSTEM && kind != KIND_INTERFACE) return GC_ERR_ACCESS_DENIED;
    if (size != sizeof value || (address != LIST_UPDATE && address != LIST_SELECTOR)) return GC_ERR_INVALID_ADDRESS;
    memcpy(&value, data, sizeof value);
    if (address == LIST_UPDATE) {
        if (kind == KIND_SYSTEM) update_interfaces();
        else update_names(interface);
        return GC_ERR_SUCCESS;
    }
    pthread_mutex_lock(&names_lock);
    uint32_t *selected = kind == KIND_SYSTEM ? &interface_selected : &interface->selected;
    bool is_there = value < (kind == KIND_SYSTEM ? interface_count : interface->count);
    if (is_there) *selected = (uint32_t)value;
    pthread_mutex_unlock(&names_lock);
    return is_there ? GC_ERR_SUCCESS : GC_ERR_INVALID_PARAMETER;
}

/* Of the module itself, and of what its list selects. */
static int read_module_info(const void *of, enum kind kind, uint64_t address, void *data, size_t size) {
    static info_function *const own[] = {tell_system, tell_interface, tell_device, tell_device, tell_stream};
    const struct interface *interface = of;
    char name[NAME_MAX + 1];
    if (address < LIST_INFOS) return port_read_info(own[kind], of, address, data, size);
    address -= LIST_INFOS;
    switch (kind) {
    case KIND_SYSTEM:
        pthread_mutex_lock(&names_lock);
        interface = &interfaces[interface_selected];
        pthread_mutex_unlock(&names_lock);
        return port_read_info(tell_interface, interface, address, data, size);
    case KIND_DEVICE: return port_read_info(tell_stream, of, address, data, size);
    case KIND_INTERFACE:
        pthread_mutex_lock(&names_lock);
        snprintf(name, sizeof name, "%s", interface->count ? interface->names[interface->selected] : "");
        pthread_mutex_unlock(&names_lock);
        return port_read_info(tell_listed, name, address, data, size);
    default: return GC_ERR_INVALID_ADDRESS;
    }
}

static int read_port(void *of, enum kind kind, uint64_t address, void *data, size_t size) {
    struct open_camera *opened = of;
    bool is_dead = kind == KIND_REMOTE && !device_alive(&opened->device);
    if (port_holds(address) && is_dead) return GC_ERR_IO;
    if (address >= DESCRIPTION) return port_read_description(kind, address, data, size);
    if (port_holds(address)) return read_module_info(of, kind, address, data, size);
    if (kind == KIND_STREAM) return stream_read(opened, address, data, size);
    if (kind != KIND_REMOTE) return read_list(of, kind, address, data, size);
    int error = device_read(&opened->device, address, data, size);
    if (error || address != REGISTERS + 8 * R_PAYLOAD_SIZE) return error;
    return port_read_number(stream_payload_size(opened), data, size); /* the device knows of no chunks */
}

EXPORT GC_ERROR GCReadPort(HANDLE port, uint64_t address, void *buffer, size_t *size) {
    HELD held;
    enum kind kind;
    if (!hold_port(port, &held, &kind)) return no_handle();
    NEED(buffer && size);
    return done(read_port(held.object, kind, address, buffer, *size));
}

EXPORT GC_ERROR GCWritePort(HANDLE port, uint64_t address, const void *buffer, size_t *size) {
    HELD held;
    enum kind kind;
    if (!hold_port(port, &held, &kind)) return no_handle();
    NEED(buffer && size);
    if (kind != KIND_REMOTE) return done(write_list(held.object, kind, address, buffer, *size));
    struct open_camera *opened = held.object;
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

static const char *module_id(enum kind kind, const void *of) {
    switch (kind) {
    case KIND_SYSTEM: return MODEL;
    case KIND_INTERFACE: return ((const struct interface *)of)->id;
    case KIND_STREAM: return STREAM_ID;
    default: return ((const struct open_camera *)of)->id;
    }
}

EXPORT GC_ERROR GCGetPortInfo(HANDLE port, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HELD held;
    enum kind kind;
    if (!hold_port(port, &held, &kind)) return no_handle();
    bool is_writable = kind == KIND_SYSTEM || kind == KIND_INTERFACE || kind == KIND_REMOTE;
    switch (what) {
    case PORT_INFO_ID: return put_text(module_id(kind, held.object), type, buffer, size);
    case PORT_INFO_VENDOR: return put_text(VENDOR, type, buffer, size);
    case PORT_INFO_MODEL: return put_text(MODEL, type, buffer, size);
    case PORT_INFO_TLTYPE: return put_text(TL_TYPE, type, buffer, size);
    case PORT_INFO_VERSION: return put_text(VERSION, type, buffer, size);
    case PORT_INFO_MODULE: return put_text(port_of(kind)->module, type, buffer, size);
    case PORT_INFO_PORTNAME: return put_text(port_of(kind)->name, type, buffer, size);
    case PORT_INFO_LITTLE_ENDIAN: case PORT_INFO_ACCESS_READ: return put_number(1, INFO_DATATYPE_BOOL8, type, buffer, size);
    case PORT_INFO_ACCESS_WRITE: return put_number(is_writable, INFO_DATATYPE_BOOL8, type, buffer, size);
    case PORT_INFO_BIG_ENDIAN: case PORT_INFO_ACCESS_NA: case PORT_INFO_ACCESS_NI:
        return put_number(0, INFO_DATATYPE_BOOL8, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR GCGetNumPortURLs(HANDLE handle, uint32_t *count) {
    HELD held;
    enum kind kind;
    if (!hold_port(handle, &held, &kind)) return no_handle();
    NEED(count);
    *count = 1;
    return GC_ERR_SUCCESS;
}

/* The description is read through the port itself, at an address in it. */
EXPORT GC_ERROR GCGetPortURLInfo(HANDLE handle, uint32_t index, CMD what, INFO_DATATYPE *type, void *buffer,
                                 size_t *size) {
    HELD held;
    enum kind kind;
    char url[128];
    if (!hold_port(handle, &held, &kind)) return no_handle();
    if (index) return done(GC_ERR_INVALID_INDEX);
    const struct port *port = port_of(kind);
    size_t length = (size_t)(port->end - port->text);
    switch (what) {
    case URL_INFO_URL:
        snprintf(url, sizeof url, "Local:%s;%x;%zx", port->file, DESCRIPTION, length);
        return put_text(url, type, buffer, size);
    case URL_INFO_SCHEMA_VER_MAJOR: case URL_INFO_SCHEMA_VER_MINOR: case URL_INFO_FILE_VER_MAJOR:
        return put_number(1, INFO_DATATYPE_INT32, type, buffer, size);
    case URL_INFO_FILE_VER_MINOR: case URL_INFO_FILE_VER_SUBMINOR:
        return put_number(0, INFO_DATATYPE_INT32, type, buffer, size);
    case URL_INFO_FILE_REGISTER_ADDRESS: return put_number(DESCRIPTION, INFO_DATATYPE_UINT64, type, buffer, size);
    case URL_INFO_FILE_SIZE: return put_number(length, INFO_DATATYPE_UINT64, type, buffer, size);
    case URL_INFO_SCHEME: return put_number(URL_SCHEME_LOCAL, INFO_DATATYPE_INT32, type, buffer, size);
    case URL_INFO_FILENAME: return put_text(port->file, type, buffer, size);
    default: return done(GC_ERR_NOT_IMPLEMENTED);
    }
}

EXPORT GC_ERROR GCGetPortURL(HANDLE port, char *url, size_t *size) {
    return GCGetPortURLInfo(port, 0, URL_INFO_URL, NULL, url, size);
}

/* ---- events and streams: see stream.c ---- */

EXPORT GC_ERROR GCRegisterEvent(HANDLE source, CMD event, HANDLE *registered) {
    HELD held;
    enum kind kind;
    if (!hold_port(source, &held, &kind)) return no_handle();
    NEED(registered);
    if (kind != KIND_STREAM || event != EVENT_NEW_BUFFER) return done(GC_ERR_NOT_IMPLEMENTED);
    return done(handle_make(KIND_EVENT, held.object, registered));
}

EXPORT GC_ERROR GCUnregisterEvent(HANDLE source, CMD event) {
    HELD held;
    enum kind kind;
    if (!hold_port(source, &held, &kind)) return no_handle();
    if (kind != KIND_STREAM || event != EVENT_NEW_BUFFER) return done(GC_ERR_NOT_IMPLEMENTED);
    bool is_ended = handle_end(KIND_EVENT, held.object, end_waits);
    return done(is_ended ? GC_ERR_SUCCESS : GC_ERR_INVALID_PARAMETER);
}

EXPORT GC_ERROR EventGetData(HANDLE event, void *buffer, size_t *size, uint64_t timeout_ms) {
    struct new_buffer_event data;
    HOLD(struct open_camera, opened, event, KIND_EVENT);
    NEED(buffer && size); /* a buffer would be fetched, and told to nobody */
    if (*size < sizeof data) return done(GC_ERR_BUFFER_TOO_SMALL);
    int error = stream_wait(opened, timeout_ms, &data);
    return error ? done(error) : put(&data, sizeof data, buffer, size);
}

EXPORT GC_ERROR EventGetDataInfo(HANDLE event, const void *in, size_t in_size, CMD what, INFO_DATATYPE *type, void *out,
                                 size_t *size) {
    HOLD(struct open_camera, opened, event, KIND_EVENT);
    NEED(in);
    if (in_size < sizeof(struct new_buffer_event)) return done(GC_ERR_INVALID_PARAMETER);
    const struct new_buffer_event *data = in;
    if (what != EVENT_DATA_ID && what != EVENT_DATA_VALUE) return done(GC_ERR_NOT_IMPLEMENTED);
    return put_number((uint64_t)(uintptr_t)(what == EVENT_DATA_ID ? data->buffer : data->user), INFO_DATATYPE_PTR, type, out,
                      size);
}

EXPORT GC_ERROR EventGetInfo(HANDLE event, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HOLD(struct open_camera, opened, event, KIND_EVENT);
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
    HOLD(struct open_camera, opened, event, KIND_EVENT);
    return done(stream_flush(opened, ACQ_QUEUE_OUTPUT_DISCARD));
}

EXPORT GC_ERROR EventKill(HANDLE event) {
    HOLD(struct open_camera, opened, event, KIND_EVENT);
    stream_kill(opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSClose(HANDLE handle) {
    struct handle *stream = handle_retire(handle, KIND_STREAM);
    if (!stream) return no_handle();
    struct open_camera *opened = handle_object(stream);
    handle_drain(stream, NULL); /* from now on nobody registers its event */
    handle_end(KIND_EVENT, opened, end_waits);
    stream_close(opened);
    stream_init(opened);
    handle_drop(stream);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSGetParentDev(HANDLE stream, HANDLE *device) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(device);
    *device = handle_of(KIND_DEVICE, opened);
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSGetInfo(HANDLE stream, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    return tell_stream(opened, what, type, buffer, size);
}

EXPORT GC_ERROR DSAnnounceBuffer(HANDLE stream, void *base, size_t size, void *user, HANDLE *buffer) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(base && buffer);
    return done(stream_announce(opened, base, size, user, buffer));
}

EXPORT GC_ERROR DSAllocAndAnnounceBuffer(HANDLE stream, size_t size, void *user, HANDLE *buffer) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(buffer);
    return done(stream_announce(opened, NULL, size, user, buffer));
}

EXPORT GC_ERROR DSRevokeBuffer(HANDLE stream, HANDLE buffer, void **base, void **user) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    return done(stream_revoke(opened, buffer, base, user));
}

EXPORT GC_ERROR DSQueueBuffer(HANDLE stream, HANDLE buffer) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    return done(stream_queue(opened, buffer));
}

EXPORT GC_ERROR DSFlushQueue(HANDLE stream, CMD operation) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    return done(stream_flush(opened, operation));
}

EXPORT GC_ERROR DSGetBufferID(HANDLE stream, uint32_t index, HANDLE *buffer) {
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(buffer);
    HANDLE found = stream_buffer_at(opened, index);
    if (!found) return done(GC_ERR_INVALID_INDEX);
    *buffer = found;
    return GC_ERR_SUCCESS;
}

EXPORT GC_ERROR DSStartAcquisition(HANDLE stream, CMD flags, uint64_t frames) {
    (void)flags;
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(frames);
    pthread_mutex_lock(&opened->starting);
    int error = stream_start(opened, frames);
    pthread_mutex_unlock(&opened->starting);
    return done(error);
}

EXPORT GC_ERROR DSStopAcquisition(HANDLE stream, CMD flags) {
    (void)flags;
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    pthread_mutex_lock(&opened->starting);
    stream_stop(opened);
    pthread_mutex_unlock(&opened->starting);
    /* A camera that is gone does not confirm: real producers then fail half-way, and the host must cope. */
    return done(device_alive(&opened->device) ? GC_ERR_SUCCESS : GC_ERR_IO);
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
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    struct buffer seen;
    if (!stream_look(opened, handle, &seen)) return done(GC_ERR_INVALID_HANDLE);
    const struct buffer *b = &seen;
    uint64_t number;
    INFO_DATATYPE kind = INFO_DATATYPE_SIZET;
    switch (what) {
    case BUFFER_INFO_TIMESTAMP: case BUFFER_INFO_TIMESTAMP_NS:
        return buffer_time(opened, b, what, type, out, size);
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
    case BUFFER_INFO_SIZE_FILLED: case BUFFER_INFO_DATA_SIZE: number = stream_size_filled(b); break;
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
    HOLD(struct open_camera, opened, stream, KIND_STREAM);
    NEED(count);
    struct buffer seen;
    if (!stream_look(opened, handle, &seen)) return done(GC_ERR_INVALID_HANDLE);
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
