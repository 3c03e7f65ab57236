"""The GenTL functions and what they take, for gentl_calls.py: a word for each argument, two for some.

`data` is a place and its size, `value` and `news` the same where it must be there, `told` an event's data,
`chunks` a place for chunks. `open` is where a new handle goes, `out` where another answer goes, `out?` the same
where it may be left out.
"""

PORTS = ("system", "interface", "device", "remote", "stream")
INFO = "cmd out? data"
FUNCTIONS = {
    "GCInitLib": "", "GCCloseLib": "", "GCGetInfo": INFO, "GCGetLastError": "out? data",
    "TLOpen": "open", "TLClose": "system", "TLGetInfo": f"system {INFO}",
    "TLUpdateInterfaceList": "system out? timeout", "TLGetNumInterfaces": "system out",
    "TLGetInterfaceID": "system index data", "TLGetInterfaceInfo": f"system interface_id {INFO}",
    "TLOpenInterface": "system interface_id open",
    "IFClose": "interface", "IFGetInfo": f"interface {INFO}", "IFGetParentTL": "interface out",
    "IFUpdateDeviceList": "interface out? timeout", "IFGetNumDevices": "interface out",
    "IFGetDeviceID": "interface index data", "IFGetDeviceInfo": f"interface device_id {INFO}",
    "IFOpenDevice": "interface device_id access open",
    "DevClose": "device", "DevGetInfo": f"device {INFO}", "DevGetPort": "device open",
    "DevGetParentIF": "device out", "DevGetNumDataStreams": "device out",
    "DevGetDataStreamID": "device index data", "DevOpenDataStream": "device stream_id open",
    "GCReadPort": "port address value", "GCWritePort": "port address value", "GCGetPortInfo": f"port {INFO}",
    "GCGetNumPortURLs": "port out", "GCGetPortURL": "port data", "GCGetPortURLInfo": f"port index {INFO}",
    "GCRegisterEvent": "port event_id open", "GCUnregisterEvent": "port event_id",
    "EventGetData": "event news timeout", "EventGetDataInfo": f"event told {INFO}",
    "EventGetInfo": f"event {INFO}", "EventFlush": "event", "EventKill": "event",
    "DSClose": "stream", "DSGetParentDev": "stream out", "DSGetInfo": f"stream {INFO}",
    "DSAnnounceBuffer": "stream memory size pointer open", "DSAllocAndAnnounceBuffer": "stream size pointer open",
    "DSRevokeBuffer": "stream buffer out? out?", "DSQueueBuffer": "stream buffer", "DSFlushQueue": "stream queue",
    "DSGetBufferID": "stream index out", "DSStartAcquisition": "stream flags frames",
    "DSStopAcquisition": "stream flags", "DSGetBufferInfo": f"stream buffer {INFO}",
    "DSGetBufferChunkData": "stream buffer chunks",
}  # fmt: skip
MAKES = {
    "TLOpen": "system", "TLOpenInterface": "interface", "IFOpenDevice": "device", "DevGetPort": "remote",
    "DevOpenDataStream": "stream", "GCRegisterEvent": "event", "DSAnnounceBuffer": "buffer",
    "DSAllocAndAnnounceBuffer": "buffer",
}  # fmt: skip
"""Functions that give out a handle, of which kind."""
CODES = {0, *range(-1017, -1001), -1021, -1022}
"""What a call may give: success, or an error that the standard has."""
