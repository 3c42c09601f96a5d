//! An HTTP request: number of the rule (one byte), id in the path, query, body, NUL between.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use xpu_agent::gateway::Gateway;
use xpu_fuzz::parts;

static GATEWAY: LazyLock<Gateway> =
    LazyLock::new(|| match Gateway::new(xpu_proto::FILE_DESCRIPTOR_SET) {
        Ok(gateway) => gateway,
        Err(error) => panic!("{error}"),
    });

fuzz_target!(|data: &[u8]| {
    let Some((number, data)) = data.split_first() else {
        return;
    };
    let [id, query, body] = parts(data);
    let (Ok(id), Ok(query)) = (std::str::from_utf8(id), std::str::from_utf8(query)) else {
        return;
    };
    let rules: Vec<_> = GATEWAY.rules().collect();
    let rule = rules[usize::from(*number) % rules.len()];
    let path = [("id".to_owned(), id.to_owned())];
    match rule.message(&path, query, body) {
        Ok(message) => {
            let input = rule.rpc().input();
            assert_eq!(prost_descriptor(&message), input.full_name());
            // The services read the same bytes, whatever came in.
            assert!(message.encoded_len() <= 4 * (id.len() + query.len() + body.len()) + 1_000);
            // Nothing that a client wrote goes unread.
            if let Some(body) = with_a_key_twice(body) {
                assert!(
                    rule.message(&path, query, body.as_bytes()).is_err(),
                    "{body}"
                );
            }
        }
        Err(refusal) => {
            let status = refusal.status();
            assert_eq!(i32::from(status.code()), 3, "{status}");
            assert!(!status.message().is_empty());
        }
    }
});

fn prost_descriptor(message: &prost_reflect::DynamicMessage) -> String {
    use prost_reflect::ReflectMessage;
    message.descriptor().full_name().to_owned()
}

/// The JSON object with its first key once more, at its end.
fn with_a_key_twice(body: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let key = serde_json::to_string(object.keys().next()?).ok()?;
    let text = std::str::from_utf8(body).ok()?.trim_end();
    Some(format!("{}, {key}: null}}", text.strip_suffix('}')?))
}
