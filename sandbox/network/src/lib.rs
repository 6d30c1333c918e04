//! Container networks of a node: bridges, addresses, names, published ports
