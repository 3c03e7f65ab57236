"""simcam: a GenTL producer of ours, in C, that shows images of a folder as GenICam cameras.

gentl.h              the standard's constants          device.c    the camera: registers, triggers, pictures
producer.c           the GenTL functions               stream.c    its acquisition thread and buffers
handles.c            which handles are open            world.py    makes cameras, and does things to them
faults.c, faults.py  what goes wrong on command        sim.py      a folder of images as such a camera
nodes.c, nodes.py    what features are, and allow      *.xml       the descriptions: system, interface, device
ports.c              what GenApi reads of a module                 (its local side), camera, stream
"""
