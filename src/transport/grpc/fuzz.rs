//! What must hold of the messages that nodes send each other by gRPC, whatever is in them. The fuzz targets call it, through
//! `crate::fuzz`.

use prost::Message as _;

use super::convert::{
    answer_in, answer_out, handover_in, handover_out, invalidation_in, invalidation_out, words_in, words_out,
};
use crate::rpc::peer_v1::{Answer, GetManyResponse, HandoverRequest, InvalidateRequest};

const VALUE_BYTES_MAX: usize = 1 << 10;

/// A message's bytes, without the five that frame it.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_grpc_messages(data: &[u8]) {
    if let Ok(Ok(answer)) = Answer::decode(data).map(|answer| answer_in(answer, VALUE_BYTES_MAX)) {
        assert!(answer.value.as_ref().is_none_or(|value| value.bytes().len() <= VALUE_BYTES_MAX));
        let again = answer_in(answer_out(answer.clone()), VALUE_BYTES_MAX);
        assert_eq!(again.expect("what is written is read"), answer);
    }
    if let Ok(Ok(words)) = GetManyResponse::decode(data).map(|all| words_in(all.words, VALUE_BYTES_MAX)) {
        let again = words_in(words_out(words.clone()), VALUE_BYTES_MAX);
        assert_eq!(again.expect("what is written is read"), words);
    }
    if let Ok(Ok(told)) = InvalidateRequest::decode(data).map(invalidation_in) {
        let again = invalidation_in(invalidation_out(&told)).expect("what is written is read");
        assert_eq!((again.group, again.selection), (told.group, told.selection));
    }
    if let Ok(Ok(told)) = HandoverRequest::decode(data).map(|request| handover_in(&request)) {
        let again = handover_in(&handover_out(&told)).expect("what is written is read");
        assert_eq!((again.group, again.from, again.keys), (told.group, told.from, told.keys));
        // No budget is the longest one that can be told.
        assert!(again.budget <= told.budget);
    }
}
