"""What is particular to the Tenants page: tenants coming and going."""
