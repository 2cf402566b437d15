"""Names that `tasker_core.handlers` defines, under the path they were published with."""

from tasker_core.errors import ResolutionError, ResolverNotFoundError
from tasker_core.handlers.bound import HandlerDefinition, MethodDispatchWrapper
from tasker_core.handlers.chain import ResolverChain
from tasker_core.handlers.resolvers import (
    BaseResolver,
    ClassLookupResolver,
    ExplicitMappingResolver,
    RegistryResolver,
)

__all__ = [
    "BaseResolver",
    "ClassLookupResolver",
    "ExplicitMappingResolver",
    "HandlerDefinition",
    "MethodDispatchWrapper",
    "RegistryResolver",
    "ResolutionError",
    "ResolverChain",
    "ResolverNotFoundError",
]
