#include "ports.h"

#include <string.h>

/* A description stands in this library as it stands in its file. */
#define INCLUDE(name) \
    __asm__(".pushsection .rodata\n" \
            ".hidden simcam_" #name ", simcam_" #name "_end\n" \
            ".globl simcam_" #name ", simcam_" #name "_end\n" \
            "simcam_" #name ":\n.incbin \"" #name ".xml\"\n" \
            "simcam_" #name "_end:\n.popsection\n"); \
    extern const unsigned char simcam_##name[], simcam_##name##_end[];
INCLUDE(system)
INCLUDE(interface)
INCLUDE(device)
INCLUDE(camera)
INCLUDE(stream)

#define PORT(module, port, name) {module, port, "simcam_" #name ".xml", simcam_##name, simcam_##name##_end}
static const struct port ports[] = {
    [KIND_SYSTEM] = PORT("TLSystem", "TLPort", system),
    [KIND_INTERFACE] = PORT("TLInterface", "InterfacePort", interface),
    [KIND_DEVICE] = PORT("TLDevice", "DevicePort", device),
    [KIND_REMOTE] = PORT("Device", "Device", camera),
    [KIND_STREAM] = PORT("TLDataStream", "StreamPort", stream),
};

const struct port *port_of(enum kind kind) { return &ports[kind]; }

bool port_holds(uint64_t address) { return address >= INFO_NUMBERS; }

int port_read_description(enum kind kind, uint64_t address, void *data, size_t size) {
    uint64_t at = address - DESCRIPTION, length = (uint64_t)(ports[kind].end - ports[kind].text);
    if (address < DESCRIPTION || at > length || size > length - at) return GC_ERR_INVALID_ADDRESS;
    memcpy(data, ports[kind].text + at, size);
    return GC_ERR_SUCCESS;
}

int port_read_number(uint64_t value, void *data, size_t size) {
    if (size != sizeof value) return GC_ERR_INVALID_ADDRESS;
    memcpy(data, &value, sizeof value);
    return GC_ERR_SUCCESS;
}

static int read_text(info_function *ask, const void *of, uint64_t at, void *data, size_t size) {
    char text[INFO_TEXT] = {0}; /* what is not text is zeros */
    size_t length = sizeof text;
    INFO_DATATYPE type;
    if (at % INFO_TEXT + size > INFO_TEXT) return GC_ERR_INVALID_ADDRESS;
    int error = ask(of, (CMD)(at / INFO_TEXT), &type, text, &length);
    if (error) return error;
    if (type != INFO_DATATYPE_STRING) return GC_ERR_INVALID_ADDRESS;
    memcpy(data, text + at % INFO_TEXT, size);
    return GC_ERR_SUCCESS;
}

int port_read_info(info_function *ask, const void *of, uint64_t address, void *data, size_t size) {
    bool is_text = address >= INFO_TEXTS;
    uint64_t at = address - (is_text ? INFO_TEXTS : INFO_NUMBERS), value = 0;
    if (size > INFO_TEXT || at >= INFO_COMMANDS * (is_text ? INFO_TEXT : 8u)) return GC_ERR_INVALID_ADDRESS;
    if (is_text) return read_text(ask, of, at, data, size);
    INFO_DATATYPE type;
    size_t length = sizeof value;
    if (at % 8) return GC_ERR_INVALID_ADDRESS;
    int error = ask(of, (CMD)(at / 8), &type, NULL, &length); /* a text may be longer */
    if (error) return error;
    if (type == INFO_DATATYPE_STRING) return GC_ERR_INVALID_ADDRESS;
    error = ask(of, (CMD)(at / 8), &type, &value, &length);
    return error ? error : port_read_number(value, data, size);
}
