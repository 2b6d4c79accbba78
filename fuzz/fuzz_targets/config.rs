//! The configuration of the device.
#![no_main]

use avocado_device::DeviceConfig;
use avocado_fuzz::told;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match DeviceConfig::parse(text) {
        Ok(config) => {
            assert!(config.base.is_absolute());
            assert!(!config.socket.is_empty());
        }
        Err(error) => drop(told(&error)),
    }
});
