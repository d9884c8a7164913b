//! What the whole-system tests share: labs in network namespaces, virtual clients, the daemon under test.
