//! Publishing by the extension, and looks at topics.

use std::time::Duration;

use mq_core::TopicName;
use mq_nsq::client::{Connection, Identify};
use mq_nsq::server::Config;
use mq_nsq::wire::extension::{Run, Runs};

use crate::common::{start, start_with};
use crate::{extended, first_offset, plain, publish, record, results};

#[tokio::test]
async fn a_publish_is_answered_with_offsets_and_duplicates_to_the_byte() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "all", &[plain(b"a"), plain(b"b")])).await;
    let frame = peer.frame().await.unwrap();
    let first = first_offset(&frame);
    let want = [&[0, 0, 0, 0, 2][..], &first.to_be_bytes()].concat();
    assert_eq!((frame.kind, frame.data), (4, want));

    let with_id = |id: &[u8]| record(Duration::ZERO, Some(id), &[], b"x");
    peer.send(&publish("t", "all", &[with_id(b"1"), with_id(b"2")])).await;
    let ids = peer.frame().await.unwrap();
    let first = first_offset(&ids);
    peer.send(&publish("t", "each", &[with_id(b"2"), with_id(b"3"), with_id(b"3")])).await;
    let again = peer.frame().await.unwrap();
    let fresh = match Runs::new(&again.data).nth(1).unwrap().unwrap() {
        Run::Stored { first, duplicate: false, .. } => first,
        run => panic!("{run:?}"),
    };
    let at = fresh - first;
    let want = ["duplicate 1 at 1".to_owned(), format!("stored 1 at {at}"), format!("duplicate 1 at {at}")];
    assert_eq!(results(&again, first), want);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_message_takes_no_other_with_it_unless_they_go_together() {
    let config = Config { max_msg_size: 10, ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let mut peer = extended(&server).await;
    let large =
        "E_PUB_FAILED PUBLISH failed the message takes 11 bytes, at most 10 are allowed (--max-msg-size)";
    let records = [plain(b"a"), plain(&[b'l'; 11]), plain(b""), plain(b"b"), plain(b"c")];
    peer.send(&publish("t", "each", &records)).await;
    let each = peer.frame().await.unwrap();
    let first = first_offset(&each);
    let empty = "E_PUB_FAILED PUBLISH failed a message must have at least one byte";
    let words = results(&each, first);
    assert_eq!(words[0], "stored 1 at 0");
    assert_eq!(words[1..3], [format!("refused 1 {large}"), format!("refused 1 {empty}")]);
    assert!(words[3].starts_with("stored 2 at "), "{words:?}");

    peer.send(&publish("t", "all", &records)).await;
    let all = peer.frame().await.unwrap();
    assert_eq!(results(&all, 0), [format!("refused 5 {large}")]);
    peer.send(&publish("t", "all", &[vec![0, 0, 0, 1, 0, 0, 0, 5, 4, 0, 0, 0, 0, b'x']])).await;
    let unknown = peer.frame().await.unwrap();
    assert_eq!(results(&unknown, 0), ["refused 1 E_PUB_FAILED PUBLISH failed attribute 4 is not known"]);
    let id = [2, 0, 0, 0, 1, b'i'];
    let twice = [&[0, 0, 0, 1, 0, 0, 0, 12][..], &id, &id, b"x"].concat();
    peer.send(&publish("t", "all", &[twice])).await;
    let twice = peer.frame().await.unwrap();
    assert_eq!(results(&twice, 0), ["refused 1 E_PUB_FAILED PUBLISH failed attribute 2 is there twice"]);
    let late = record(Duration::from_secs(3601), None, &[], b"x");
    peer.send(&publish("t", "all", &[late])).await;
    let late = peer.frame().await.unwrap();
    let why = "a delay of 3601000 ms, at most 3600000 ms are allowed (--max-req-timeout)";
    assert_eq!(results(&late, 0), [format!("refused 1 E_PUB_FAILED PUBLISH failed {why}")]);
    assert_eq!(server.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap().depth(), 3);

    // A malformed one ends the connection.
    peer.send(&publish("t", "all", &[vec![0, 0, 0, 9, 0, 0, 0, 0, b'x']])).await;
    peer.expect("error E_BAD_MESSAGE PUBLISH malformed: a length is larger than what is left").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn each_is_for_as_many_as_an_answer_has_reasons_for() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "each", &vec![plain(b""); 1024])).await;
    assert_eq!(results(&peer.frame().await.unwrap(), 0).len(), 1024);
    peer.send(&publish("t", "each", &vec![plain(b""); 1025])).await;
    peer.expect("error E_BAD_BODY PUBLISH of each takes at most 1024 messages, not 1025").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_look_at_a_topic_shows_headers_where_they_were_agreed_on() {
    let server = start().await;
    let mut peer = extended(&server).await;
    let rich = record(Duration::ZERO, None, &[("colour", b"red")], b"one");
    peer.send(&publish("t", "all", &[rich, plain(b"two")])).await;
    let first = first_offset(&peer.frame().await.unwrap());
    for extension in [true, false] {
        let identify = Identify { extension, ..Identify::default() };
        let mut connection = Connection::connect(&server.address, identify).await.unwrap();
        let topic = TopicName::parse("t").unwrap();
        let peeked = connection.peek(&topic, None, 10).await.unwrap();
        let [one, two] = &peeked.messages[..] else { panic!("{peeked:?}") };
        assert_eq!((&one.body[..], &two.body[..]), (&b"one"[..], &b"two"[..]));
        assert_eq!((one.token, two.token), (None, None));
        let (offsets, headers) = match extension {
            true => ([Some(first), Some(first + 1)], vec![("colour".to_owned(), bytes::Bytes::from("red"))]),
            false => ([None, None], Vec::new()),
        };
        assert_eq!(([one.offset, two.offset], &one.headers), (offsets, &headers));
        assert_eq!(two.headers, []);
        assert_eq!(peeked.next.map(|id| id.offset().0), Some(first + 2));
        connection.close().await.unwrap();
    }
    server.stop().await;
}
