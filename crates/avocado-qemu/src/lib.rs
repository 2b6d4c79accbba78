//! A QEMU process: command line, QMP, guest agent, pause, save, restore.
