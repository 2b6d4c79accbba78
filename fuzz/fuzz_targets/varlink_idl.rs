//! Interface definitions, and parameters checked against them: those of the input, and ours. The
//! input is a definition and a JSON object, with a line `%%` between them.
#![no_main]

use std::sync::LazyLock;

use avocado_fuzz::told;
use avocado_varlink::idl::Interface;
use avocado_varlink::server::SERVICE_IDL;
use avocado_varlink::wire::Parameters;
use libfuzzer_sys::fuzz_target;

static OURS: LazyLock<Vec<Interface>> = LazyLock::new(|| {
    let texts = [
        SERVICE_IDL,
        include_str!("../../crates/avocadoctl/varlink/org.avocado.Runtimes.varlink"),
        include_str!("../../crates/avocadoctl/varlink/org.avocado.Extensions.varlink"),
        include_str!("../../crates/avocadoctl/varlink/org.avocado.RootAuthority.varlink"),
    ];
    texts.map(|text| Interface::parse(text).unwrap()).into()
});

fn check(interface: &Interface, parameters: &Parameters) {
    for method in interface.methods() {
        assert!(interface.has_method(method));
        for misfit in [
            interface.check_call(method, parameters),
            interface.check_reply(method, parameters),
        ] {
            if let Err(misfit) = misfit {
                assert!(!misfit.0.is_empty() || parameters.contains_key(""));
            }
        }
    }
    let _ = interface.check_error("RuntimeNotFound", parameters);
}

fuzz_target!(|text: &str| {
    let (definition, object) = text.split_once("\n%%\n").unwrap_or((text, "{}"));
    let parameters: Parameters = serde_json::from_str(object).unwrap_or_default();
    OURS.iter()
        .for_each(|interface| check(interface, &parameters));
    match Interface::parse(definition) {
        Ok(interface) => {
            assert_eq!(interface.text(), definition);
            assert!(!interface.name().is_empty());
            check(&interface, &parameters);
        }
        Err(error) => drop(told(&error)),
    }
});
