"""The five steps of an order, in the order of the template.

validate_cart      a class     looks the prices up, or refuses the cart
process_payment    a function  charges the gateway, once
update_inventory   a class     takes the goods out of stock, once
create_order       a function  writes the order down, once
send_confirmation  a function  mails the customer, once

A worker can be killed at any moment, and then another one runs the step again. So every
step that changes something leaves a row with the task's uuid in its key, and does nothing
where that row exists: `insert … on conflict do nothing`.
"""
