"""simcam: a GenTL producer of ours, in C, that shows images of a folder as GenICam cameras.

gentl.h              the standard's constants          device.c    the camera: registers, triggers, pictures
producer.c           the GenTL functions               stream.c    its acquisition thread and buffers
camera.xml           its features                      world.py    makes cameras, and does things to them
"""
