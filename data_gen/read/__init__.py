"""SQL text -> typed query, whatever the spelling."""
