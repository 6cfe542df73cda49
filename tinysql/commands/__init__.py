"""What `tinysql train`, `eval`, `ask` and `report` do: parse, call one function, write."""
