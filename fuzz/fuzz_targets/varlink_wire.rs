//! Messages and their framing: however the bytes arrive, the messages are the same; a message
//! that is read is written and read again as the same. The first byte says how they arrive.
#![no_main]

use avocado_fuzz::told;
use avocado_varlink::wire::{
    CallMessage, MessageDecoder, ReplyMessage, call_bytes, error_bytes, reply_bytes,
};
use libfuzzer_sys::fuzz_target;

/// The longest message that is allowed.
const LONGEST: usize = 200;

fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = MessageDecoder::new(bytes.len());
    decoder.push(bytes);
    let message = decoder.next_message().unwrap().unwrap().to_vec();
    assert_eq!(decoder.next_message().unwrap(), None);
    message
}

fn check(message: &[u8]) {
    match CallMessage::parse(message) {
        Ok(call) => {
            let bytes = call_bytes(&call.method, &call.parameters, call.mode).unwrap();
            assert_eq!(CallMessage::parse(&whole(&bytes)).unwrap(), call);
            if let Some((interface, method)) = call.name() {
                assert_eq!(format!("{interface}.{method}"), call.method);
            }
        }
        Err(error) => drop(told(&error)),
    }
    match ReplyMessage::parse(message) {
        Ok(reply) => {
            let bytes = match &reply.error {
                Some(name) => error_bytes(name, &reply.parameters),
                None => reply_bytes(&reply.parameters, reply.continues),
            };
            assert_eq!(ReplyMessage::parse(&whole(&bytes.unwrap())).unwrap(), reply);
        }
        Err(error) => drop(told(&error)),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else {
        return;
    };
    let mut expected = bytes.split(|byte| *byte == 0);
    let mut decoder = MessageDecoder::new(LONGEST);
    for piece in bytes.chunks(usize::from(how).max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    assert_eq!(Some(message), expected.next());
                    assert!(message.len() <= LONGEST);
                    check(message);
                }
                Err(_) => {
                    assert!(expected.next().unwrap().len() > LONGEST);
                    return;
                }
            }
        }
    }
    // What is left is what no NUL has ended.
    let rest = expected.next().unwrap();
    assert!(rest.len() <= LONGEST);
    assert_eq!(expected.next(), None);
});
