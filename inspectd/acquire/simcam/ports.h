/* What the ports of the modules show to GenApi: their descriptions (XML), and behind these the module's infos. */
#ifndef SIMCAM_PORTS_H
#define SIMCAM_PORTS_H

#include "handles.h"

/* Where things are in a module's port; the descriptions name these addresses. Info command N of the module itself is at
 * INFO_NUMBERS + 8 * N, or if it is a text at INFO_TEXTS + INFO_TEXT * N; the same of the one that its list selects is
 * LIST_INFOS further on. */
#define LIST_UPDATE 0x2000u
#define LIST_SELECTOR 0x2008u
#define LIST_COUNT 0x2010u
#define LIST_LAST 0x2018u /* what the selector can be at most */
#define INFO_NUMBERS 0x10000u
#define INFO_TEXTS 0x100000u
#define INFO_TEXT 0x1000u
#define INFO_COMMANDS 64u
#define LIST_INFOS 0x1000000u
#define DESCRIPTION 0x10000000u

typedef GC_ERROR info_function(const void *of, CMD what, INFO_DATATYPE *type, void *buffer, size_t *size);

struct port {
    const char *module, *name, *file; /* GenTL's name of the module, that of its port, that of its description */
    const unsigned char *text, *end;  /* the description */
};

const struct port *port_of(enum kind kind);
bool port_holds(uint64_t address); /* an info's or the description's, not a register of the module's own */
/* All three give a GenTL error code. */
int port_read_description(enum kind kind, uint64_t address, void *data, size_t size);
int port_read_info(info_function *ask, const void *of, uint64_t address, void *data, size_t size);
int port_read_number(uint64_t value, void *data, size_t size);

#endif
