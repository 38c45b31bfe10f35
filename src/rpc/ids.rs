//! Ids of requests that jsonrpsee does not understand.
//!
//! JSON-RPC allows strings, numbers and null. jsonrpsee holds numbers in 64 bits without sign, and takes a
//! request with any other id (negative, fractional, larger, an object) for one without: for a notification,
//! which is never answered, so that its sender waits for ever. Such requests are made unreadable here,
//! before jsonrpsee gets them, and it answers them with -32600. The id in that answer is null, as the
//! standard says for an id that could not be detected.

use std::ops::Range;

use jsonrpsee::types::Id;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What takes the place of a request: an object that is none. Nothing shorter is one either.
const NO_REQUEST: &[u8] = br#"{"id":null}"#;

/// The one part of a request that is looked at.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

/// A key that is there, also when its value is null.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// Makes every request unreadable whose id jsonrpsee would overlook, in a single request or a batch.
/// Returns whether there was one. The length stays what it was.
pub(super) fn blank_unknown(message: &mut [u8]) -> bool {
    let wrong = unknown(message);
    for place in &wrong {
        let request = &mut message[place.clone()];
        request.fill(b' ');
        request[..NO_REQUEST.len()].copy_from_slice(NO_REQUEST);
    }
    !wrong.is_empty()
}

/// Where the requests with such ids lie.
fn unknown(message: &[u8]) -> Vec<Range<usize>> {
    let requests = match message.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => serde_json::from_slice(message).map(|one| vec![one]),
        Some(b'[') => serde_json::from_slice::<Vec<&RawValue>>(message),
        Some(_) | None => return Vec::new(),
    };
    // What is no JSON is jsonrpsee's to refuse.
    let requests = requests.unwrap_or_default();
    let wrong = requests.into_iter().map(RawValue::get).filter(|request| is_unknown(request));
    let place = |request: &str| {
        let start = request.as_ptr() as usize - message.as_ptr() as usize;
        start..start + request.len()
    };
    wrong.map(place).collect()
}

fn is_unknown(request: &str) -> bool {
    if !request.starts_with('{') || request.len() < NO_REQUEST.len() {
        return false;
    }
    match serde_json::from_str::<Request<'_>>(request) {
        Ok(Request { id: Some(id) }) => serde_json::from_str::<Id<'_>>(id.get()).is_err(),
        Ok(Request { id: None }) => false,
        // Two ids, of which nobody knows which is meant.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(message: &str) -> String {
        let mut bytes = message.as_bytes().to_vec();
        let changed = blank_unknown(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text.len(), message.len());
        assert_eq!(changed, text != message);
        text.trim().to_owned()
    }

    #[test]
    fn ids_that_jsonrpsee_knows_are_left_alone() {
        for id in ["0", "1", "18446744073709551615", "null", "\"\"", "\"-1\"", "\"\\u00e4\\n\""] {
            let request = format!(r#"{{"jsonrpc": "2.0", "id": {id}, "method": "m"}}"#);
            assert_eq!(blanked(&request), request);
        }
        for other in
            [r#"{"method": "m"}"#, "7", "[]", "[1, {}]", "{", "", "[{\"id\": -1}", "\u{e9}"]
        {
            assert_eq!(blanked(other), other);
        }
    }

    #[test]
    fn other_ids_make_a_request_unreadable() {
        for id in ["-1", "1.5", "1.0", "1e3", "18446744073709551616", "true", "[1]", "{\"a\": 1}"] {
            let request = format!(r#"{{"jsonrpc": "2.0", "id": {id}, "method": "m"}}"#);
            assert_eq!(blanked(&request), r#"{"id":null}"#, "{id}");
        }
        assert_eq!(blanked(r#"{"id": 1, "id": 2, "method": "m"}"#), r#"{"id":null}"#);
    }

    #[test]
    fn the_rest_of_a_batch_stays() {
        let batch = r#"[{"id": 1}, {"id": -10}, {"method": "\"id\": -1"}, {"id": 2.5, "a": 1}]"#;
        let left: serde_json::Value = serde_json::from_str(&blanked(batch)).expect("still JSON");
        let wanted =
            serde_json::json!([{"id": 1}, {"id": null}, {"method": "\"id\": -1"}, {"id": null}]);
        assert_eq!(left, wanted);
    }
}
