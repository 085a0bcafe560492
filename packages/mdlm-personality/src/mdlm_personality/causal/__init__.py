"""The causal layer: graphs, mechanisms, interventions, discovery."""
