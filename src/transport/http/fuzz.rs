//! What must hold of the bodies that nodes send each other over HTTP, whatever is in them. The fuzz targets call it, through
//! `crate::fuzz`.

use std::time::Duration;

use super::{
    frame::{PLAIN, WITH_LOG, read_batch, read_words, write_batch, write_words},
    message::{HandoverMessage, InvalidateMessage, PeekManyMessage, PeekedMessage},
};
use crate::group::{HANDOVER_KEYS_MAX, PeekMany, PeerBatch};

const VALUE_BYTES_MAX: usize = 1 << 10;
const BUDGET: Duration = Duration::from_secs(1);

/// The frames of `/_ggcache.v1/batch`.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_frames(data: &[u8]) {
    if let Ok(frame) = read_batch(data) {
        assert!(frame.keys.len() <= HANDOVER_KEYS_MAX);
        let batch = PeerBatch {
            group: frame.group.clone(),
            keys: frame.keys.clone(),
            epoch: frame.epoch,
            budget: BUDGET,
            digest: frame.digest,
            only_cached: frame.only_cached,
            need: frame.need,
        };
        assert_eq!(read_batch(&write_batch(&batch)), Ok(frame));
    }
    if let Ok(words) = read_words(data, VALUE_BYTES_MAX) {
        let values = words.iter().filter_map(|word| word.as_ref().ok()?.as_ref()?.value.as_ref());
        assert!(values.map(|value| value.bytes().len()).sum::<usize>() <= data.len());
        let mut answers = words.iter().filter_map(|word| word.as_ref().ok()?.as_ref());
        // All answers of a message have the same.
        let (digest, cursor) = answers.next().map_or((0, None), |answer| (answer.digest, answer.cursor));
        let version = if cursor.is_some() { WITH_LOG } else { PLAIN };
        let again = read_words(&write_words(version, digest, cursor, &words), VALUE_BYTES_MAX);
        assert_eq!(again.expect("what is written is read"), words);
    }
}

/// The messages in JSON.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_messages(data: &[u8]) {
    if let Ok(Ok(told)) = InvalidateMessage::read(data).map(|message| message.into_invalidation(BUDGET)) {
        let again = InvalidateMessage::read(&json(&InvalidateMessage::from(&told)));
        let again = again.and_then(|message| message.into_invalidation(BUDGET)).expect("it is read again");
        assert_eq!((again.group, again.selection), (told.group, told.selection));
    }
    if let Ok(Ok((group, keys))) = PeekManyMessage::read(data).map(PeekManyMessage::into_parts) {
        let request = PeekMany { group: group.clone(), keys: keys.clone(), budget: BUDGET };
        let again = PeekManyMessage::read(&json(&PeekManyMessage::from(&request)));
        assert_eq!(again.and_then(PeekManyMessage::into_parts), Ok((group, keys)));
    }
    if let Ok(Ok(handover)) = HandoverMessage::read(data).map(|message| message.into_handover(BUDGET)) {
        let again = HandoverMessage::read(&json(&HandoverMessage::from(&handover)));
        let again = again.and_then(|message| message.into_handover(BUDGET)).expect("it is read again");
        assert_eq!((again.group, again.from, again.keys), (handover.group, handover.from, handover.keys));
    }
    if let Ok(answers) = PeekedMessage::read(data) {
        assert_eq!(PeekedMessage::read(&json(&PeekedMessage::new(answers.clone()))), Ok(answers));
    }
}

fn json(message: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("strings and numbers become json")
}
