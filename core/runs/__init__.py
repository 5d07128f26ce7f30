"""What lies in a workspace, a module a kind of run; `workspace` says where."""
