"""What was asked of models: counted, limited, and logged as a project wants it."""
