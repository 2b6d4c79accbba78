use crate::fakes::{Fake, FakeGraph, Place, key};

#[test]
fn a_graph_shows_who_needs_whom() {
    let mut graph = FakeGraph::default();
    let a = graph.add(Fake::new("a"));
    let b = graph.add(Fake::new("b").needs(&[a]));
    graph.add(Fake::new("c").needs(&[b, a]));
    assert_eq!(graph.to_string(), "a\nb <- a\nc <- b, a\n");
    assert_eq!(format!("{graph:?}"), r#"["a", "b", "c"]"#);
}

#[test]
fn a_task_is_found_by_its_stamp_and_the_type_of_its_output() {
    let place = Place::new();
    let mut graph = FakeGraph::new();
    graph.add(Fake::new("a"));
    graph.add(Fake::new("b"));
    let found = graph.find::<String>(&key("b")).unwrap();
    assert!(graph.find::<String>(&key("c")).is_none());
    assert!(graph.find::<usize>(&key("b")).is_none());
    let finished = place.run(&graph).unwrap();
    assert_eq!(finished.results().output(found).unwrap(), "b");
}
